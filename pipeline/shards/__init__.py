"""Shards: WebDataset tars, their index, ledger, dataset card and sidecars; and our reader."""
