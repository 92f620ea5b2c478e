"""Which labels are worth a look: doubles, mistakes, what is unlike the rest, and what to review next."""
