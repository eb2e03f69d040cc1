"""The training core: from (base model, task, settings, seed) to scores. No Ray, no MLflow, no Hydra."""
