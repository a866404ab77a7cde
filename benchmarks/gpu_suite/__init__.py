"""Builds, checks and measures everything that runs on a GPU: ``python -m benchmarks.gpu_suite``."""
