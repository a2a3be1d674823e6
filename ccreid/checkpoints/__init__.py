"""The files that keep a network: checkpoints and exported weights."""
