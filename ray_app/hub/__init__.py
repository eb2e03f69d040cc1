"""Getting checkpoints and data sets: the hub, a mirror, a Python package."""
