"""What a run leaves on disk and how it survives being stopped: folder, checkpoints, progress, signals."""
