"""What the project measures: the demonstration, and benchmarks."""
