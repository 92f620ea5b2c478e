"""Datasets from the object registry: values, splits, folders, formats, cards, versions."""
