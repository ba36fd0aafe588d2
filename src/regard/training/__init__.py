"""Training: recipes and settings, the loop, a run's folder and checkpoints, ablations."""
