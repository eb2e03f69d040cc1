"""Clusters: templates filled in, started, looked at and ended; commands submitted to them as jobs."""
