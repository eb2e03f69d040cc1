"""Plan, queue, trial, runner: cells through Ray Tune."""
