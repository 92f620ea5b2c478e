"""Which model is in which memory, and when; and the pipeline whose steps take turns in that memory."""
