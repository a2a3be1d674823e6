"""Benchmarks, protocols, sampling, transforms, side information."""
