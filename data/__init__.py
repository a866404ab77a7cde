"""Built-in scene descriptions and camera paths."""
