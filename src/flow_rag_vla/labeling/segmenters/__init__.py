"""Backends that turn boxes into masks."""
