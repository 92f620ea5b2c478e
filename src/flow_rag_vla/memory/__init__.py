"""Failures remembered: cases, their store and index, what is similar, and what to do about it."""
