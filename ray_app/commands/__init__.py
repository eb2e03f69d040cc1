"""One file per command of the front door; each has run(config) -> exit code."""
