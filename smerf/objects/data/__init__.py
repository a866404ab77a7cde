"""Sets of object scenes: generated, read, and taken from photos."""
