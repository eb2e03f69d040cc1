"""Frozen models: features made once, heads fitted on them."""
