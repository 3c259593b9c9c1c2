"""``python -m flambeau``: the same program as the ``flambeau`` command."""

import sys

from flambeau.cli import main

if __name__ == "__main__":
    sys.exit(main())
