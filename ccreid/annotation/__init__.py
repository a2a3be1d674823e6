"""What makes masks and captions where a benchmark has none: networks and services, run once."""
