"""What a kernel is told: one record per step of a plan, and the arguments that all kernels take."""

import numpy as np

from runtime.kernels.step import Function

ADD, SAME = len(Function), len(Function) + 1  # beside those in `Function`: a sum, and none at all

INTEGERS = """
images lanes pixels size to_lanes
h w c oh ow out_c
kh kw stride_y stride_x dilation_y dilation_x pad_top pad_left
tiles runs_at starts_at weights_at bias_at slope_at
has_other one_pixel function
pixels_at channels_at channels_step first_channel channels
""".split()
FLOATS = "low high alpha beta last_low last_high".split()

# Aligned: of packed records numba would load every number byte by byte.
STEP = np.dtype([(name, np.int32) for name in INTEGERS] + [(name, np.float32) for name in FLOATS], align=True)
"""Tensors lie as [pixel][channel][image], the images of a batch filled up to a multiple of `LANES`: flat arrays of
float32 or float16; sums are float32. `images` is the batch size, `lanes` the images in memory; `pixels` and `size`
(numbers to compute) count these. Fields ending in `_at` are places in the index (runs, starts, pixels, channels), in
the weights (weights) or in the vectors (bias; slope, of a SCALE its factor). A convolution that ends in a `function`
has its limits behind that, `last_low` and `last_high`. A TRANSPOSE turns the user's images `to_lanes`, or back.

Every kernel takes (steps, number, x, other, weights, vectors, index, out): `other` is a second tensor, or x again. All
indices are below 2**31.
"""
LANES = 4  # images that a thread of the convolution reads at once
RUN_CHANNELS = 32  # most channels of a run: adjacent channels of one tap that a tile of outputs keeps
RUN_NUMBERS = 5  # of a run in the index: dy, dx, distance, channels, place of its weights
