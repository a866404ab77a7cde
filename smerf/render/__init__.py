"""Rendering of a baked scene: native (CPU and CUDA), and the PyTorch reference that specifies it."""
