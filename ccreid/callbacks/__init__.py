"""What watches a run: evaluation, cost, progress, tables."""
