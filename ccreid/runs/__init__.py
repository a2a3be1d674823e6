"""What happens around a training: its folder, jobs, processes and signals, going on."""
