"""Backends that find what prompts name."""
