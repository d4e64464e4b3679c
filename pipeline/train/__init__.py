"""Train: the compact three-stage trainer that proves the mixture can be learned from."""

METRICS = "metrics.json"
"""What a training leaves in its folder, last of all. Named here, where no import of PyTorch is."""
