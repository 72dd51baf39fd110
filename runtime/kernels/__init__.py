"""Kernels: flat arrays and integers in, numbers out. Nothing here knows of files or graphs."""
