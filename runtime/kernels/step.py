"""What a kernel is told: one record per step of a plan, and the names of the kernels."""

from enum import IntEnum

import numpy as np


class Kernel(IntEnum):
    """Kernel families; the registry tells their members apart."""

    IMPORT = 0  # the user's array into a layout
    EXPORT = 1  # a layout into the user's array
    CONV_IMAGES = 2  # images in the lanes, rows shared by a tile of output channels
    CONV_CHANNELS = 3  # output channels in the lanes
    DEPTHWISE = 4  # channels in the lanes, one input channel for each output channel
    MAX_POOL = 5
    AVERAGE_POOL = 6
    ADD = 7
    ACTIVATE = 8
    SOFTMAX = 9
    FLATTEN = 10
    CONV_SCATTERED = 11  # images in the lanes, every output channel with rows of its own
    MAP = 12  # a `Function` of each number
    GATHER = 13  # numbers taken from elsewhere
    CONV_WHOLE = 14  # output channels in the lanes, whole lines of a narrow image in registers
    CONV_WINOGRAD = 15  # 3x3 by Winograd's transform, images or output channels in the lanes
    CONV_PIXELS = 16  # a single image's pixels in the lanes, rows shared by a tile of output channels


class Function(IntEnum):
    """What a MAP step, or the end of a convolution, computes of x, its parameters alpha and beta, its channel's slope
    or scale and bias, or y.
    """

    LEAKY_RELU = 0  # x, or alpha * x below zero
    PRELU = 1  # x, or slope * x below zero
    SIGMOID = 2
    HARD_SIGMOID = 3  # alpha * x + beta between 0 and 1
    HARD_SWISH = 4  # x * (x / 6 + 1/2 between 0 and 1)
    TANH = 5
    SCALE = 6  # scale * x + bias
    MUL = 7  # x * y, y being another tensor, or one pixel
    SUB = 8  # x - y
    DIV = 9  # x / y
    SWISH = 10  # x times its sigmoid


NO_FUNCTION = -1  # in its place, in a step that has none


INTEGERS = """
kernel row address tasks
x_at out_at residual_at
user_address user_size user_at user_image user_row user_pixel user_channel
h w c oh ow out_c
lanes x_block x_pixel x_row x_column out_block out_pixel x_stride out_stride apart x_tile
kh kw taps stride_y stride_x dilation_y dilation_x pad_top pad_left
tiles tile_channels tiles_near row_size tiles_per_task rows_per_task tile_chunks
parts part_channels waiting windows block_h block_w near_h near_w near_row near_plane near_channel near_size
weights_at bias_at zeros_at rows_at starts_at sights_at row_taps_at runs_at runs
pool_h pool_w
function one_pixel slope_at
pixels_at moved_at moved moved_of other_pixels_at other_moved
""".split()

FLOATS = "low high alpha beta last_low last_high".split()

# Numbers of a run of moved numbers: its place beyond a pixel's, its target's beyond an output pixel's, and its length.
RUN_FIELDS = 3
# Numbers of a run of columns, and those for each column of a pooling's window: see `column_runs`.
RUN_HEAD, RUN_SIGHT = 3, 4

USER_FIRST = INTEGERS.index("user_address")
USER = slice(USER_FIRST, USER_FIRST + 7)  # the fields of a user's array, in a step taken as int64 values

STEP = np.dtype([(name, np.int64) for name in INTEGERS] + [(name, np.float32) for name in FLOATS])
"""Fields, in elements unless a count. `row` is the kernel's place in the registry; `address`, where its compiled
function begins, is filled in before a run, and so are the fields of a user's array: the address and extent of its
memory, where its first number lies there, and its strides. Other offsets ending in `_at` are into the arena of one
image group (x, out, residual), into the weights (weights, bias) or into the index (the others)."""
