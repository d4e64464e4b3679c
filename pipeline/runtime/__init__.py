"""The stage contract, the runners that honour it, and the workspace that remembers."""
