"""Gaussian splats as a teacher: readers of their files, cameras around them, and answers to rays."""
