"""One script a number that we quote: ``python -m benchmarks.NAME --help``; ``python -m benchmarks`` runs them all."""
