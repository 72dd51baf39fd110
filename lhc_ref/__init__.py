"""The reference for learnable heterogeneous convolution: differentiable NumPy, obvious before fast."""

__version__ = "0.1.0"
