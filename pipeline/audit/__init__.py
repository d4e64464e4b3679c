"""Audit: recounts a mixture from its tars alone, and draws the report."""
