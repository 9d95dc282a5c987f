"""The starter models behind other servers, for `python -m benchmarks.servers`."""
