"""Faults drawn from a seed, what an independent watch finds in the command stream meanwhile, and the page of both."""
