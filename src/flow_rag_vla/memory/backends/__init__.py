"""Ways to keep the vectors of one group of cases and to find the nearest: one protocol, several backends."""
