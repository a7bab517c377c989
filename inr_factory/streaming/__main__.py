"""What `python -m inr_factory.streaming` runs: a fitter."""

import sys

from inr_factory.streaming.fitter import main

main(sys.argv[1:])
