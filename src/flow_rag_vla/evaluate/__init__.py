"""Rollouts, intervals, benchmarks and the report of a run."""
