"""Settings that hold for every test."""

import os

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

# Shared machines stall for seconds: a slow example is no failure, a hanging one meets pytest's timeout.
# The tests that gate a change try the same examples each time; `make fuzz` looks for new ones.
settings.register_profile("laws", deadline=None, derandomize=True)
settings.register_profile("fuzz", deadline=None, max_examples=2_000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "laws"))
