"""Streaming: fits views while a reader is trained on them."""
