"""The live page: what a person sees of a running graph, and the few things that they may ask of it."""
