"""The desktop and web viewers and the shaders they share."""
