"""The GPU backend: the same models through numba.cuda, which only loading a model for a GPU imports."""
