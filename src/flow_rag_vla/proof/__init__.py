"""The claims about the memory, made again from nothing: policies, banks, controls, paired trials."""
