"""Decode: the frames shown on an exact time grid, sized for every encoder in one pass."""
