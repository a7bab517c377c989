"""Benchmarks: what this package costs compared with the usual ways, interleaved in one run.

The baselines are written as published code writes them, so h5py and scipy are imported here, too.
"""
