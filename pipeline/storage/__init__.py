"""Object stores: one client, its errors told as a user's, and a cache on this machine for what was fetched."""
