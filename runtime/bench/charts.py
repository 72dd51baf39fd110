"""Plots as inline SVG, of which colours and fonts come from the page's style, so that they follow light and dark."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 360  # of every plot in its own units; the page scales it
ROW, BAR, FONT = 24, 13, 12
LETTER = 0.56 * FONT  # about the width of one
LONGEST_LABEL = 20  # letters


@dataclass(frozen=True)
class Bar:
    """A row of a bar chart.

    Attributes
    ----------
    label, value, text : what, how much, and how that is written
    kind : class of the page's style that colours it
    low, high : a range to draw as a whisker
    inner : a smaller amount to draw inside the bar
    ghost : another amount, drawn as an outline behind it
    tip : what is shown on hovering
    """

    label: str
    value: float
    text: str
    kind: str
    low: float | None = None
    high: float | None = None
    inner: float | None = None
    ghost: float | None = None
    tip: str = ""


@dataclass(frozen=True)
class Line:
    """A curve: name, points (x, y), class; `dashed` for what was not measured; `marks` draws the points."""

    name: str
    points: Sequence[tuple[float, float]]
    kind: str
    dashed: bool = False
    marks: bool = True


def bars(rows: Sequence[Bar], title: str) -> str:
    """Horizontal bars from zero, each with its value at its end."""
    left = _label_width(row.label for row in rows)
    room = WIDTH - left - max(len(row.text) for row in rows) * LETTER - 14
    ends = [max(row.value, row.high or 0.0, row.ghost or 0.0) for row in rows]
    most = max(ends, default=0.0) or 1.0

    def x(value: float) -> float:
        return left + room * value / most

    parts = []
    for i, row in enumerate(rows):
        y = i * ROW + 4
        middle, end = y + BAR / 2, x(ends[i])
        parts.append(_text(left - 8, middle + 4, _short(row.label), "end", "mine" if row.label == "ours" else ""))
        if row.ghost is not None:
            parts.append(_rect(left, y, x(row.ghost) - left, BAR, "ghost"))
        parts.append(_rect(left, y, x(row.value) - left, BAR, f"bar {row.kind}"))
        if row.inner is not None:
            parts.append(_rect(left, y + 4, x(min(row.inner, row.value)) - left, BAR - 8, "inner"))
        if row.low is not None and row.high is not None:
            parts.append(f'<path class="whisker" d="M{x(row.low):.1f} {middle:.1f}H{x(row.high):.1f}"/>')
        parts.append(_text(end + 7, middle + 4, row.text))
        parts.append(f'<rect class="tip" x="0" y="{i * ROW}" width="{WIDTH}" height="{ROW}">{_title(row.tip)}</rect>')
    return _svg(parts, len(rows) * ROW + 2, title)


def plot(
    lines: Sequence[Line], title: str, x_name: str, y_name: str, *, x_ticks: Sequence[float], log: bool = False
) -> str:
    """Curves over a few values of x, with y from 0; or on two logarithmic axes."""
    height, left, bottom, right, top = 260.0, 42.0, 40.0, 14.0, 12.0
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    y_ticks = powers(min(ys), max(ys)) if log else nice(max(ys))
    x_range = (min(*xs, *x_ticks), max(*xs, *x_ticks)) if log else (min(x_ticks), max(x_ticks))
    y_range = (min(*ys, *y_ticks), max(*ys, *y_ticks)) if log else (0.0, max(*ys, *y_ticks))

    def x(value: float) -> float:
        return left + (WIDTH - left - right) * _place(value, x_range, log)

    def y(value: float) -> float:
        return height - bottom - (height - bottom - top) * _place(value, y_range, log)

    parts = []
    for tick in y_ticks:
        parts.append(f'<path class="grid" d="M{left} {y(tick):.1f}H{WIDTH - right}"/>')
        parts.append(_text(left - 7, y(tick) + 4, _tick(tick), "end"))
    for tick in x_ticks:
        parts.append(f'<path class="grid" d="M{x(tick):.1f} {top}V{height - bottom}"/>')
        parts.append(_text(x(tick), height - bottom + 16, _tick(tick), "middle"))
    parts.append(_text((left + WIDTH - right) / 2, height - 6, x_name, "middle", "name"))
    parts.append(_text(left, top - 1 + FONT, y_name, "start", "name"))
    for line in lines:
        if len(line.points) > 1:
            path = "L".join(f"{x(px):.1f} {y(py):.1f}" for px, py in line.points)
            parts.append(f'<path class="line {line.kind}{" dashed" * line.dashed}" d="M{path}"/>')
        if line.marks:
            parts += [
                f'<circle class="mark {line.kind}" cx="{x(px):.1f}" cy="{y(py):.1f}" r="4">'
                f"{_title(f'{line.name}: {px:,.4g}, {py:,.4g}')}</circle>"
                for px, py in line.points
            ]
    return _svg(parts, height, title)


def dots(rows: Sequence[tuple[str, Sequence[tuple[float, str, str]]]], title: str, x_name: str) -> str:
    """Rows of dots between 0 and 1: (label, [(value, class, tip)]); class "tick" is a stroke."""
    left, right = _label_width(label for label, _ in rows), 16.0
    height = len(rows) * ROW + 40

    def x(value: float) -> float:
        return left + (WIDTH - left - right) * value

    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<path class="grid" d="M{x(tick):.1f} 2V{height - 36}"/>')
        parts.append(_text(x(tick), height - 20, f"{tick:g}", "middle"))
    parts.append(_text((left + WIDTH - right) / 2, height - 4, x_name, "middle", "name"))
    for i, (label, found) in enumerate(rows):
        y = i * ROW + ROW / 2
        parts.append(_text(left - 8, y + 4, _short(label), "end"))
        parts.append(f'<path class="grid" d="M{left} {y}H{WIDTH - right}"/>')
        for value, kind, tip in found:
            if kind == "tick":
                parts.append(f'<path class="tick" d="M{x(value):.1f} {y - 8}V{y + 8}">{_title(tip)}</path>')
            else:
                radius = 6 if kind == "hollow" else 4
                parts.append(
                    f'<circle class="mark {kind}" cx="{x(value):.1f}" cy="{y}" r="{radius}">{_title(tip)}</circle>'
                )
    return _svg(parts, height, title)


def legend(entries: Iterable[tuple[str, str]]) -> str:
    """Names beside the colours of their classes."""
    items = "".join(f'<li><i class="swatch {kind}"></i>{escape(name)}</li>' for name, kind in entries)
    return f'<ul class="legend">{items}</ul>'


def nice(most: float) -> list[float]:
    """From 0 to at least `most` in about five steps of 1, 2 or 5 times a power of ten."""
    step = 10.0 ** math.floor(math.log10(most / 4)) if most > 0 else 1.0
    step *= next(factor for factor in (1, 2, 5, 10) if most / (factor * step) <= 6)
    return [step * i for i in range(math.ceil(most / step - 1e-9) + 1)]


def powers(least: float, most: float) -> list[float]:
    """Powers of ten that enclose two positive numbers."""
    return [10.0**i for i in range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)]


def log_ticks(least: float, most: float) -> list[float]:
    """Powers of ten between two positive numbers; where there are fewer than three, twice and five times these too."""
    decades = powers(least, most)
    tens = [tick for tick in decades if least <= tick <= most]
    finer = [factor * decade for decade in decades for factor in (1, 2, 5)]
    return tens if len(tens) >= 3 else [tick for tick in finer if least <= tick <= most]


def _tick(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:g}"


def _place(value: float, limits: tuple[float, float], log: bool) -> float:
    """Where a value lies between two others: 0 to 1."""
    low, high = limits
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / ((high - low) or 1.0)


def _label_width(labels: Iterable[str]) -> float:
    return max((len(_short(label)) for label in labels), default=0) * LETTER + 12


def _short(label: str) -> str:
    """Why the end: nodes of a net begin alike."""
    return label if len(label) <= LONGEST_LABEL else f"\u2026{label[1 - LONGEST_LABEL :]}"


def _rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    size = f'width="{max(width, 1):.1f}" height="{height:.1f}"'
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" {size} rx="2"/>'


def _text(x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(text)}</text>'


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>"


def _svg(parts: Sequence[str], height: float, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">{_title(title)}'
        + "".join(parts)
        + "</svg>"
    )
