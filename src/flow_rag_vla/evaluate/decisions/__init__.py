"""Recorded decisions made again, compared and explained. No ROS needed."""
