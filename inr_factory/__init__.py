"""INR Factory: data sets of implicit neural representations (INRs), and networks that take their weights as input."""

__version__ = "0.1.0"
