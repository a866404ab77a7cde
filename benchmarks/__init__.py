"""One script a number that we quote: ``python -m benchmarks.NAME --help``; ``python -m benchmarks`` runs them all."""

import os

# As the command does: threads that spin while they wait for each other cost processor time once anything else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
