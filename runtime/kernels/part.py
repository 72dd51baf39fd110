"""Which part of a convolution belongs to a task."""

from runtime.kernels.options import inlined_kernel


@inlined_kernel
def part_of(step, task):
    """(first, last) of its output tiles, and (first, last) of its output rows; each `last` is one beyond."""
    first_tile = task % step["tile_chunks"] * step["tiles_per_task"]
    last_tile = min(step["tiles"], first_tile + step["tiles_per_task"])
    first_oy = task // step["tile_chunks"] * step["rows_per_task"]
    return first_tile, last_tile, first_oy, min(step["oh"], first_oy + step["rows_per_task"])
