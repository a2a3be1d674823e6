"""What a run is to the machine: a folder, jobs, processes, signals, whole checkpoints."""
