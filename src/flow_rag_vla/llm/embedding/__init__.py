"""Sentences to vectors: one protocol, three ways."""
