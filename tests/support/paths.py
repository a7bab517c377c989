"""Paths of the checkout, and of the data sets beside it that tests use where they exist."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "inr_factory"
DATASETS = ROOT.parent / "shared" / "datasets"
