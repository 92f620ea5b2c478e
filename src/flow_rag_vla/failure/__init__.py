"""Failures of a manipulation: phases, rules on what a robot senses, and a learned before/after classifier.

numpy only: a detector process carries neither torch nor ROS in here.
"""
