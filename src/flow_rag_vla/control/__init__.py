"""The 40 Hz loop without ROS: chunk queue, arbiter, clamps, safety ladder. numpy only."""
