"""Real arms: what a robot is (profiles), where its tool is, and how it follows commands inside its limits. No ROS."""
