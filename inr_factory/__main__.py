"""`python -m inr_factory`: the command line without its script."""

from inr_factory.cli.main import main

main()
