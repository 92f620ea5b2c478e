"""One file a provider; each imports its package only when it is made."""
