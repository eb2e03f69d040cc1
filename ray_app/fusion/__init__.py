"""Fusing checkpoints of one architecture into one base model."""
