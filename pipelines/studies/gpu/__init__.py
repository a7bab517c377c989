"""The parts of gpu_figures.py: each measures one thing on a GPU and records its rows."""
