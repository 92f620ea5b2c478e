"""Backends that turn what is in a box into a vector."""
