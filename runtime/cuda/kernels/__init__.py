"""The GPU's kernels. They import numba.cuda at their top, so `runtime.cuda.gate` alone imports them."""
