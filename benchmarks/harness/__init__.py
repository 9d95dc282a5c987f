"""What all benchmarks share: command line, report, processes, product data."""
