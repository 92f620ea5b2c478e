"""What the registry is held to, measured beside baselines of the same run."""
