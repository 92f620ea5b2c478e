"""Labels over HTTP: find, correct and accept what the labelling pipeline saw; see docs/review.md."""
