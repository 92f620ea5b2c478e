"""A policy on another machine, behind the protocol of openpi's policy server."""
