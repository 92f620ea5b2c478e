"""The registry: every labelled object with its source, masks, vectors, history; the truth that datasets are made of."""
