"""Similarity indexes over the vectors of one embedder: caches, each rebuilt from the database when it is lost."""
