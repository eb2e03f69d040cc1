"""The embedded default: a small language model and tasks made from the docstrings of installed libraries."""
