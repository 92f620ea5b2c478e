"""PyBullet worlds, their tasks, cameras, a scripted expert and a failure generator."""
