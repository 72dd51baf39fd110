"""Measuring a net on this machine: engines in processes of their own, times that can be believed, and what they say.

`lhc-run bench` is made of it, and so are the project's own benchmarks.
"""
