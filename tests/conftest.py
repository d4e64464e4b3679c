"""Settings that hold for every test."""

import os

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

# Shared machines stall for seconds: a slow example is no failure, a hanging one meets pytest's timeout.
settings.register_profile("laws", deadline=None)
settings.load_profile("laws")
