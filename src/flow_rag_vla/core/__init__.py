"""What every other package agrees on: actions, robot state, failure types, parameters, files."""
