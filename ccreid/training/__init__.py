"""What `train` does before, around and after the epochs: refuse, go on, fit."""
