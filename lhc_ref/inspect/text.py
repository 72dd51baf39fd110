"""A probe's report as text."""

from collections import defaultdict

from lhc_ref.inspect.probe import Pattern, Probed, Report
from lhc_ref.inspect.tables import table

PICTURES_A_ROW = 8
MOST_PATTERNS = 64


def text(report: Report) -> str:
    """All tables, one after the other."""
    parts = [report.source, _layers(report.layers), _patterns(report.layers)]
    if any(layer.scores for layer in report.layers):
        parts.append(_scores(report.layers))
    if report.epochs:
        parts.append(_epochs(report))
    return "\n\n".join(part for part in parts if part)


def _layers(layers: list[Probed]) -> str:
    rows = []
    for p in layers:
        groups = f"{p.group_in},{p.group_out}" if p.group_in else ""
        numbers = (p.kept, p.total, p.macs, p.kept_macs, p.executed_macs)
        patterns = str(len(p.patterns)) if p.patterns else ""
        rows.append(
            (p.layer, "x".join(map(str, p.shape)), groups, f"{p.density:.3f}", patterns, *map("{:,}".format, numbers))
        )
    sums = [sum(getattr(p, key) for p in layers) for key in ("kept", "total", "macs", "kept_macs", "executed_macs")]
    rows.append(("all", "", "", f"{sums[0] / max(sums[1], 1):.3f}", "", *map("{:,}".format, sums)))
    head = ("layer", "kernel", "groups", "density", "patterns", "kept", "weights", "MACs", "kept MACs", "executed")
    return "layers: weights, and multiplications of one image\n" + table(head, rows, 3)


def _patterns(layers: list[Probed]) -> str:
    """Those of all masked layers with the same window together, those that occur, sorted by taps."""
    found: dict[str, list[Pattern]] = defaultdict(list)
    for layer in layers:
        for pattern in layer.patterns:
            found[pattern.picture].append(pattern)
    if not found:
        return ""
    whole = sum(p.pairs for patterns in found.values() for p in patterns)
    entries = [(ps[0].taps, -sum(p.pairs for p in ps), picture) for picture, ps in found.items()]
    common = sorted(sorted(entries, key=lambda e: e[1])[:MOST_PATTERNS])
    lines = [f"patterns of all layers: {len(found)} occur, each with its share of the channel pairs, sorted by taps"]
    if len(common) < len(found):
        rest = 1 + sum(pairs for _, pairs, _ in common) / whole
        lines[0] += f"; the {len(common)} most common, the others are {rest:.1%} (all of them: --json)"
    for start in range(0, len(common), PICTURES_A_ROW):
        row = common[start : start + PICTURES_A_ROW]
        pictures = [picture.split("/") for _, _, picture in row]
        shares = [f"{-pairs / whole:.1%}" for _, pairs, _ in row]
        widths = [max(len(share), len(picture[0])) + 2 for share, picture in zip(shares, pictures, strict=True)]
        height = max(map(len, pictures))
        for y in range(height):
            cells = [picture[y] if y < len(picture) else "" for picture in pictures]
            lines.append("  " + "".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
        lines.append("  " + "".join(s.ljust(width) for s, width in zip(shares, widths, strict=True)).rstrip())
        lines.append("")
    return "\n".join(lines).rstrip()


def _scores(layers: list[Probed]) -> str:
    with_scores = [(p.layer, p.scores) for p in layers if p.scores]
    names = list(with_scores[0][1].quantiles)
    rows = [
        (name, *(f"{s.quantiles[q]:.3f}" for q in names), f"{s.steep:.1%}", _bars(s.counts)) for name, s in with_scores
    ]
    head = ("layer", *names, "full slope", "histogram")
    return "scores: quantiles, and the share where the surrogate has its full slope\n" + table(head, rows, 1)


def _bars(counts: list[int], columns: int = 20) -> str:
    """A histogram in one line, from the lowest score to the highest."""
    step = len(counts) // columns
    sums = [sum(counts[i : i + step]) for i in range(0, len(counts), step)]
    blocks = " ▁▂▃▄▅▆▇█"
    return "".join(blocks[-(-8 * s // max(*sums, 1))] for s in sums)


def _epochs(report: Report) -> str:
    """How the masks move: IoU with the epoch before and with the last, a row an epoch, over all layers."""
    by_epoch = defaultdict(list)
    for c in report.epochs:
        by_epoch[c.epoch].append(c)
    rows = []
    for epoch, layers in by_epoch.items():
        lowest = min(layers, key=lambda c: c.iou_last)
        means = [
            _mean([getattr(c, key) for c in layers]) for key in ("density", "iou_before", "overlap_last", "iou_last")
        ]
        rows.append((str(epoch), *means, f"{lowest.iou_last:.3f} {lowest.layer}"))
    head = (
        "epoch",
        "density",
        "IoU with the one before",
        "overlap with the last",
        "IoU with the last",
        "lowest of them",
    )
    note = "masks after each epoch that learned them, means over layers (overlap: share of weights that both keep)"
    return f"{note}\n{table(head, rows, 1)}"


def _mean(values: list[float | None]) -> str:
    there = [value for value in values if value is not None]
    return f"{sum(there) / len(there):.3f}" if there else ""
