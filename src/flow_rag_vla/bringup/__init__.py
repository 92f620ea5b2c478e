"""What runs: the graph, its topics, its parameters, and the processes that make it up. No ROS in here."""
