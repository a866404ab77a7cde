"""Fitting an object-scene model to sets of scenes, and measuring it."""
