"""Benchmarks of speed and quality: `python -m benchmarks.serving` from the checkout. See benchmarks/README.md."""
