"""The command line as a module: ``torchrun -m reidlib train ...``."""

import sys

from reidlib.cli import main

if __name__ == "__main__":
    sys.exit(main())
