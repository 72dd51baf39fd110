"""Pieces of the page: cards, and tables that can be sorted."""

from collections.abc import Sequence
from html import escape

from runtime.commands.report import time_text

Cell = tuple[str, float | str]
"""What is shown, and what sorts."""


def card(title: str, text: str, *parts: str, wide: bool = False) -> str:
    """A section with a heading, a sentence, and HTML; `wide` takes the page's whole width."""
    kind = "card wide" if wide else "card"
    return f'<section class="{kind}"><h2>{escape(title)}</h2><p>{escape(text)}</p>{"".join(parts)}</section>'


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]], kinds: Sequence[str] = (), why: bool = False) -> str:
    """A sortable table; the first column is text, and the last too if it says why."""
    columns = "".join(f'<th scope="col"><button type="button">{escape(name)}</button></th>' for name in head)
    body = []
    for i, row in enumerate(rows):
        cells = [
            f'<td{" class=why" * (why and at == len(row) - 1)} data-v="{escape(str(key))}">{escape(text)}</td>'
            for at, (text, key) in enumerate(row)
        ]
        body.append(f"<tr{f' class={kinds[i]}' if kinds else ''}>{''.join(cells)}</tr>")
    return f'<div class="scroll"><table><thead><tr>{columns}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def number(value: float | None, form: str) -> Cell:
    """A number in a format; an empty cell, sorted lowest, for None."""
    return ("", -1) if value is None else (format(value, form), value)


def seconds(value: float | None) -> Cell:
    """A duration; an empty cell for None."""
    return ("", -1) if value is None else (time_text(value), value)
