"""When: the command `mixture` and the Prefect flows that carry the same recipes."""
