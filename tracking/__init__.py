"""What was run: identity of cells, MLflow schema and store, result tables."""
