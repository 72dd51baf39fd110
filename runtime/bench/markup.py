"""Pieces of the page: cards, and tables that can be sorted."""

from collections.abc import Sequence
from html import escape

Cell = tuple[str, float | str]
"""What is shown, and what sorts; a text that sorts is shown at the left."""
EMPTY: Cell = ("", -1)
TIMES = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6))
COUNTS = (("G", 1e9), ("M", 1e6), ("k", 1e3))


def card(title: str, text: str, *parts: str, wide: bool = False) -> str:
    """A section with a heading, a sentence, and HTML; `wide` takes the page's whole width."""
    kind = "card wide" if wide else "card"
    return f'<section class="{kind}"><h2>{escape(title)}</h2><p>{escape(text)}</p>{"".join(parts)}</section>'


def bullets(texts: Sequence[str], kind: str) -> str:
    """A list; nothing of nothing."""
    return f'<ul class="{kind}">{"".join(f"<li>{escape(text)}</li>" for text in texts)}</ul>' if texts else ""


def details(summary: str, *parts: str) -> str:
    """HTML that is shown when one asks for it."""
    return f"<details><summary>{escape(summary)}</summary>{''.join(parts)}</details>"


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]], kinds: Sequence[str] = ()) -> str:
    """A sortable table; the first column stays in sight where the others are scrolled sideways."""
    texts = [isinstance(key, str) for _, key in rows[0]] if rows else [True] * len(head)
    columns = "".join(
        f'<th scope="col"{LEFT * left}><button type="button">{escape(name)}</button></th>'
        for name, left in zip(head, texts, strict=True)
    )
    body = []
    for i, row in enumerate(rows):
        cells = [
            f'<td{LEFT * left} data-v="{escape(str(key))}">{escape(text)}</td>'
            for (text, key), left in zip(row, texts, strict=True)
        ]
        body.append(f"<tr{f' class={kinds[i]}' if kinds else ''}>{''.join(cells)}</tr>")
    return f'<div class="scroll"><table><thead><tr>{columns}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


LEFT = ' class="left"'


def number(value: float | None, form: str) -> Cell:
    """A number in a format; an empty cell, sorted lowest, for None."""
    return EMPTY if value is None else (format(value, form), value)


def scaled(values: Sequence[float | None], units: Sequence[tuple[str, float]]) -> tuple[str, list[Cell]]:
    """The unit that the largest value wants, and all values in it with the same number of decimals."""
    most = max((value for value in values if value is not None), default=0.0)
    unit, scale = next((pair for pair in units if most >= pair[1]), units[-1] if units is TIMES else ("", 1.0))
    decimals = 0 if scale == 1.0 and units is COUNTS else 3 if most < 10 * scale else 2 if most < 100 * scale else 1
    return unit, [EMPTY if value is None else (f"{value / scale:,.{decimals}f}", value) for value in values]
