"""From an instruction to a checked plan, and from a failure to its causes."""
