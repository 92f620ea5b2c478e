"""Detectors of one's own: RT-DETR v2 and D-FINE, taught with pictures whose truth is known."""
