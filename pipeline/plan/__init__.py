"""Plan: exact quotas, a stable choice of candidates with reserves, and their order."""
