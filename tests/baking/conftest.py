import sys
from pathlib import Path

# The toy scene is shared with the student's tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "student"))
