"""What photos show: people."""
