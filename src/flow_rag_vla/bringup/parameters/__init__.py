"""One table of parameters a node: the source of its ROS parameters, of the YAML check and of the reference page."""
