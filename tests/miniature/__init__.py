"""Tiny copies of the benchmarks' on-disk layouts, from generated pictures."""
