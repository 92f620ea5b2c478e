"""Frames of videos and bags, and the tracks of what is seen in them."""
