"""Looking inside a net: what its masks keep, which patterns occur, how masks and scores move while it trains."""

from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from lhc_ref import mask_history, modelfile, runs
from lhc_ref.errors import CheckpointError
from lhc_ref.inspect.counts import executed_macs, walk
from lhc_ref.layers import Conv2d, Dense, LhcConv2d
from lhc_ref.mask_history import correlation, iou, overlap
from lhc_ref.modelfile import MaskedKernel

BINS = 40
QUANTILES = {"lowest": 0.0, "5%": 0.05, "median": 0.5, "95%": 0.95, "highest": 1.0}


@dataclass(frozen=True)
class Pattern:
    """A pattern of a layer.

    Attributes
    ----------
    picture : rows of the window joined by "/", "#" for a kept tap
    taps : how many are kept
    groups, pairs : how many groups of channels, and how many (input, output) pairs of channels, have it
    share : of all pairs of the layer
    """

    picture: str
    taps: int
    groups: int
    pairs: int
    share: float


@dataclass(frozen=True)
class Scores:
    """A layer's scores: counts i64[bins] between edges f64[bins + 1], and some of their quantiles.

    No bin of free patterns reaches from below 0 to above it: all taps of a bin are kept, or all are dropped.
    """

    kind: str
    counts: list[int]
    edges: list[float]
    quantiles: dict[str, float]
    steep: float  # the share where the surrogate has its full slope (free: |score| < 1)


@dataclass(frozen=True)
class Probed:
    """One convolution or dense layer.

    Attributes
    ----------
    layer, shape : name, (kh, kw, c_in, c_out) or (features, units)
    group_in, group_out : channels that share a pattern; 0 where nothing is masked
    kept, total, density : weights
    macs, kept_macs, executed_macs : of one image: as if no weight were missing; of weights that exist; those without
        what falls in the padding
    patterns : those that occur, sorted by taps, then by share; none without a mask
    scores : None in a model file, and without a mask
    """

    layer: str
    shape: tuple[int, ...]
    group_in: int
    group_out: int
    kept: int
    total: int
    density: float
    macs: int
    kept_macs: int
    executed_macs: int
    patterns: list[Pattern]
    scores: Scores | None = None


@dataclass(frozen=True)
class Comparison:
    """A layer's mask after an epoch, compared with the one after the epoch before and with the last."""

    layer: str
    epoch: int
    density: float
    overlap_before: float | None
    iou_before: float | None
    overlap_last: float
    iou_last: float
    correlation_last: float | None


@dataclass(frozen=True)
class Report:
    """All that was found in a run or a model file."""

    source: str
    layers: list[Probed]
    epochs: list[Comparison]


def probe(source: Path) -> Report:
    """Look inside a run folder, at its last saved state, or a model file.

    Raises
    ------
    ModelFileError, CheckpointError, ConfigError, DataError : it is neither, or cannot be read.
    """
    source = Path(source)
    if source.is_dir():
        return Report(str(source), _of_run(source), compare(mask_history.load(source)))
    if not source.exists():
        raise CheckpointError(f"{source}: expected a model file or a run folder, got no such thing. Check the path.")
    return Report(str(source), _of_file(source), [])


def _of_run(folder: Path) -> list[Probed]:
    net = runs.load(folder).trainer.net
    found = []
    for layer, shape, output in walk(net.body, net.image_shape):
        if isinstance(layer, Dense):
            found.append(_dense(layer.name, layer.weights["kernel"].shape))
        elif isinstance(layer, Conv2d):
            whole = (*layer.size, layer.c_in // layer.groups, layer.c_out)
            scores = _scores(layer) if isinstance(layer, LhcConv2d) else None
            found.append(_conv(layer.name, whole, layer.kernel_mask(), shape, output, layer.options, scores))
    return found


def _of_file(path: Path) -> list[Probed]:
    spec = modelfile.load(path)
    shapes = modelfile.infer_shapes(spec)
    found = []
    for node in spec.nodes:
        kernel = node.tensors.get("kernel")
        if node.op == "dense" and kernel is not None:
            found.append(_dense(node.name, kernel.shape))
        elif node.op == "conv2d" and kernel is not None:
            masked = (kernel.mask, kernel.group_in, kernel.group_out) if isinstance(kernel, MaskedKernel) else None
            whole = kernel.shape
            found.append(_conv(node.name, whole, masked, shapes[node.inputs[0]], shapes[node.output], node.attrs))
    return found


def _dense(name: str, shape: tuple[int, ...]) -> Probed:
    size = prod(shape)
    return Probed(name, tuple(shape), 0, 0, size, size, 1.0, size, size, size, [])


def _conv(
    name: str,
    whole: tuple[int, ...],
    masked: tuple[np.ndarray, int, int] | None,
    shape: tuple[int, ...],
    output: tuple[int, ...],
    options: Any,
    scores: Scores | None = None,
) -> Probed:
    pixels, size = output[0] * output[1], prod(whole)
    groups, group_in, group_out = masked or (np.ones((*whole[:2], 1, 1), bool), whole[2], whole[3])
    pairs = np.outer(_sizes(whole[2], group_in), _sizes(whole[3], group_out))
    taps = (groups * pairs).sum(axis=(2, 3))
    kept = int(taps.sum())
    window = {key: options[key] for key in ("stride", "padding", "dilation") if key in options}
    executed = executed_macs(taps, (shape[0], shape[1]), **window)
    patterns = census(groups, pairs) if masked else []
    shared = (group_in, group_out) if masked else (0, 0)
    macs = (size * pixels, kept * pixels, executed)
    return Probed(name, tuple(whole), *shared, kept, size, kept / size, *macs, patterns, scores)


def _sizes(channels: int, group: int) -> np.ndarray:
    """How many channels each group has; the last may be short."""
    return np.minimum(group, channels - np.arange(0, channels, group))


def census(groups: np.ndarray, pairs: np.ndarray) -> list[Pattern]:
    """The patterns that occur in bool[kh, kw, gi, go], each group standing for i64[gi, go] pairs of channels."""
    kh, kw = groups.shape[:2]
    flat, weights = groups.reshape(kh * kw, -1).T, pairs.ravel()
    rows, which, counts = np.unique(flat, axis=0, return_inverse=True, return_counts=True)
    numbers = np.bincount(which.ravel(), weights, len(rows)).astype(int)
    found = []
    for row, count, number in zip(rows, counts, numbers, strict=True):
        picture = "/".join("".join("#" if tap else "." for tap in line) for line in row.reshape(kh, kw))
        found.append(Pattern(picture, int(row.sum()), int(count), int(number), float(number / weights.sum())))
    return sorted(found, key=lambda p: (p.taps, -p.pairs, p.picture))


def _scores(layer: LhcConv2d) -> Scores:
    values = layer.weights["scores"].astype(np.float64)
    free = layer.mask_options["kind"] == "free"
    counts, edges = _histogram(values) if free else np.histogram(values, BINS)
    centred = values if free else values - values.mean(axis=0)
    quantiles = {name: float(np.quantile(values, q)) for name, q in QUANTILES.items()}
    return Scores(
        layer.mask_options["kind"], counts.tolist(), edges.tolist(), quantiles, float((abs(centred) < 1).mean())
    )


def _histogram(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As NumPy's, in about `BINS` bins that begin at multiples of their width, so that none reaches across 0."""
    low, high = float(values.min()), float(values.max())
    width = (high - low) / BINS or 1.0
    edges = width * np.arange(np.floor(low / width), np.floor(high / width) + 2)
    return np.histogram(values.clip(edges[0], edges[-1]), edges)  # Why clip: an edge may be rounded past a value.


def compare(snapshots: list[mask_history.Snapshot]) -> list[Comparison]:
    """Each layer's mask of each epoch beside the one before and the last."""
    found = []
    for i, now in enumerate(snapshots):
        before, last = snapshots[i - 1] if i else None, snapshots[-1]
        for name, mask in now.masks.items():
            previous = before.masks[name] if before else None
            found.append(
                Comparison(
                    name,
                    now.epoch,
                    float(mask.mean()),
                    overlap(mask, previous) if previous is not None else None,
                    iou(mask, previous) if previous is not None else None,
                    overlap(mask, last.masks[name]),
                    iou(mask, last.masks[name]),
                    correlation(mask, last.masks[name]),
                )
            )
    return found


def to_json(report: Report) -> dict[str, Any]:
    """The report as values for JSON."""
    return asdict(report)
