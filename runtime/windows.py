"""Which taps of its window each output position of a convolution sees, and how register tiles cover the columns."""

from dataclasses import dataclass

import numpy as np

from runtime.kernels.step import RUN_HEAD, RUN_SIGHT
from runtime.kernels.tiles import Tile
from runtime.layer import Layer


def valid_taps(outputs: int, size: int, stride: int, dilation: int, pad: int, taps: int) -> np.ndarray:
    """i32[outputs, 2]: for each output position the first tap inside the image and one past the last, along one
    axis.
    """
    first = np.arange(outputs) * stride - pad
    high = np.clip(-((first - size) // dilation), 0, taps)
    low = np.minimum(high, np.clip(-(first // dilation), 0, taps))
    return np.stack([low, high], 1).astype(np.int32)


def axis_taps(layer: Layer, axis: int) -> np.ndarray:
    """i32[outputs, 2]: for each position of the convolution along one axis the taps inside the image."""
    window = layer.window
    pad = (window.pad_top, window.pad_left)[axis]
    return valid_taps(
        layer.conv_shape[axis],
        layer.shape[axis],
        window.stride[axis],
        window.dilation[axis],
        pad,
        window.size[axis],
    )


def row_taps(layer: Layer) -> np.ndarray:
    """i32[rows, 2]: for each row of the convolution the taps inside the image."""
    return axis_taps(layer, 0)


def column_taps(layer: Layer) -> np.ndarray:
    """i32[columns, 2]: for each column of the convolution the taps inside the image."""
    return axis_taps(layer, 1)


def seen(taps: np.ndarray, size: int) -> np.ndarray:
    """i64[size]: how many of the positions see each tap; `taps` as of `valid_taps`."""
    each = np.arange(size)
    return ((taps[:, :1] <= each) & (each < taps[:, 1:])).sum(0)


@dataclass(frozen=True, eq=False)
class Stretch:
    """Output columns [begin, end) that see the taps [low, high), but the first not the first of them where `lead`, the
    last not the last of them where `tail`; one number for each column of the pooling's window.
    """

    begin: int
    end: int
    low: np.ndarray
    high: np.ndarray
    lead: np.ndarray
    tail: np.ndarray


def _one_less(more: np.ndarray, less: np.ndarray) -> bool:
    return bool(np.all((more == less) | (more == less + 1)))


def _stretch(taps: np.ndarray, begin: int) -> Stretch:
    """The stretch that begins at a column; taps: i32[columns, pool_w, 2]."""
    (low, high), end = taps[begin].T, begin + 1
    lead = tail = np.zeros(len(low), np.int32)
    if end < len(taps) and _one_less(low, taps[end, :, 0]):
        lead, low = low - taps[end, :, 0], taps[end, :, 0]
    same = (taps[end:] == np.stack([low, high], 1)).all((1, 2))
    end += len(same) if same.all() else int(same.argmin())
    if end < len(taps) and np.array_equal(taps[end, :, 0], low):
        missing = high - taps[end, :, 1]
        if _one_less(high, taps[end, :, 1]) and np.all(high - low - lead >= missing):
            tail, end = missing, end + 1
    return Stretch(begin, end, low, high, lead, tail)


def stretches(taps: np.ndarray) -> list[Stretch]:
    """Every column in one stretch, in order; taps: i32[columns, pool_w, 2]."""
    out: list[Stretch] = []
    while not out or out[-1].end < len(taps):
        out.append(_stretch(taps, out[-1].end if out else 0))
    return out


def column_runs(layer: Layer, tile: Tile) -> np.ndarray:
    """i32[runs, 3 + 4*pool_w]: stretches of output columns that register tiles of one size cover.

    Each is (ox, count, columns of a tile), and for each column of the pooling's window, or one where there is no
    pooling, (kx_low, kx_high, lead, tail): the taps that the columns see; where lead, the first column does not see the
    first of them; where tail, the last does not see the last.
    """
    runs = []
    for stretch in stretches(column_taps(layer).reshape(layer.out_shape[1], -1, 2)):
        ox = stretch.begin
        for size, count in tile.cover(stretch.end - stretch.begin):
            end = ox + size * count
            lead = stretch.lead * (ox == stretch.begin)
            tail = stretch.tail * (end == stretch.end)
            sights = np.stack([stretch.low, stretch.high, lead, tail], 1)
            runs.append([ox, size * count, size, *sights.reshape(-1)])
            ox = end
    return np.array(runs, np.int32)


def sights(layer: Layer, lines: int) -> np.ndarray | None:
    """i32[bands, kh * kw], for each band of so many lines of the convolution and each tap the pixels that see it: 3 *
    those of lines + those of columns, 0 all, 1 all but the first, 2 all but the last; None where it is others.
    """
    taps, width = row_taps(layer), layer.window.size[1]
    bands = [_sight(taps[first : first + lines], layer.window.size[0]) for first in range(0, len(taps), lines)]
    across = _sight(column_taps(layer), width)
    if across is None or any(band is None for band in bands):
        return None
    down = np.array(bands)
    return (3 * down[:, :, None] + across).astype(np.int32).reshape(len(down), -1)


def _sight(taps: np.ndarray, size: int) -> np.ndarray | None:
    """i64[taps]: by which of some positions each tap is seen."""
    each = np.arange(size)
    blind = (each < taps[:, :1]) | (taps[:, 1:] <= each)
    if blind[1:-1].any() or (blind[0] & blind[-1]).any():
        return None
    return blind[0] + 2 * blind[-1]


def well_formed(runs: np.ndarray, layer: Layer, tile: Tile) -> bool:
    """Whether runs are such that a kernel with a tile executes, for each column, exactly the taps inside the image."""
    wanted = column_taps(layer).reshape(layer.out_shape[1], -1, 2)
    if runs.ndim != 2 or runs.shape[1] != RUN_HEAD + RUN_SIGHT * wanted.shape[1] or not len(runs):
        return False
    begins, counts, sizes = runs[:, :RUN_HEAD].T
    low, high, lead, tail = np.moveaxis(runs[:, RUN_HEAD:].reshape(len(runs), -1, RUN_SIGHT), 2, 0)
    ends = np.cumsum(counts)
    covered = np.array_equal(begins, ends - counts) and ends[-1] == len(wanted) and bool(np.all(counts > 0))
    tiled = bool(np.all(np.isin(sizes, tile.pixels))) and not np.any(counts % sizes)
    flags = bool(np.all(np.isin([lead, tail], (0, 1)) & (high - low >= lead + tail)))
    if not (covered and tiled and flags):
        return False
    at_begin, at_end = (np.isin(np.arange(len(wanted)), places)[:, None] for places in (begins, ends - 1))
    low, high, lead, tail = (np.repeat(numbers, counts, axis=0) for numbers in (low, high, lead, tail))
    executed = np.stack([low + lead * at_begin, high - tail * at_end], 2)
    nothing = (executed[..., 0] == executed[..., 1]) & (wanted[..., 0] == wanted[..., 1])
    return bool(np.all(nothing | np.all(executed == wanted, axis=2)))
