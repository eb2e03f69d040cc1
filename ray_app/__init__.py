"""Runs it: configuration, hub access, training core, sweeps on Ray, commands."""
