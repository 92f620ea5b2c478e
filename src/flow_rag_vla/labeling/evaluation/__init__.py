"""How good a detector is beside known truth: COCO's scores, confusions, curves, and a page that shows them."""
