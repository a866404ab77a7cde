"""``python -m smerf``: the command line."""

import sys

from smerf.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
