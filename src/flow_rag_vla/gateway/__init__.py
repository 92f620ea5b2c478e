"""HTTP and web pages over the domain objects. It knows no ROS: a node hands it what it shows."""
