"""Inference of learnable heterogeneous convolution nets on CPUs: plan once, run many times."""
