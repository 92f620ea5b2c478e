"""The flow-matching policy: image encoders, velocity network, sampler, checkpoints."""
