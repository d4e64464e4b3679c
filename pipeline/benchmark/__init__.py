"""Benchmark: scores a trained model on held-out questions against blind baselines."""
