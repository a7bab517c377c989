"""Streaming: fits what a reader is trained on: views while it is trained, or a set that is opened by its name."""
