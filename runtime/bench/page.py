"""One self-contained page of what was measured: plots as inline SVG, sortable tables, no network."""

from collections.abc import Mapping
from html import escape
from pathlib import PurePath
from typing import Any

from runtime.bench import sections, style
from runtime.bench.tables import at_most_threads, bytes_text, cores_text, load_text
from runtime.commands.report import time_text

Facts = Mapping[str, Any]
INTERRUPTED = "This run was interrupted: the page shows what was measured until then."
SECTIONS = (
    sections.engines,
    sections.memory,
    sections.scaling,
    sections.roofline,
    sections.layer_times,
    sections.break_even,
    sections.layer_table,
    sections.break_even_table,
)


def render(facts: Facts) -> str:
    """The page as HTML. `facts` are those of `lhc-run bench --json`; what was not measured is left out."""
    cards = "".join(section(facts) for section in SECTIONS)
    name = escape(PurePath(facts["file"]).name)
    notes = [*facts["notes"], *([INTERRUPTED] * facts["interrupted"])]
    told = f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>' if notes else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}: measured</title><style>{style.CSS}</style></head><body><main>"
        f"<header><h1>{name}</h1>{_subtitle(facts)}</header>{_tiles(facts)}{told}"
        f"{sections.verdict(facts)}"
        f'<div class="grid2">{cards}</div>{_footer(facts)}'
        f"</main><script>{style.SCRIPT}</script></body></html>\n"
    )


def _subtitle(facts: Facts) -> str:
    setup, machine = facts["setup"], facts["machine"]
    what = f"batch {setup['batch']}, {setup['scenario']}, {max(setup['threads'])} threads"
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['vectors']}"
    return f'<p class="soft">{escape(what)} on {escape(where)}</p>'


def _tiles(facts: Facts) -> str:
    """The figures that matter most."""
    best, tiles = at_most_threads(facts), []
    if best:
        mine = best.get("ours", next(iter(best.values())))
        tiles += [(time_text(mine["batch_s"]), f"a batch of {facts['setup']['batch']}, {mine['engine']}")]
        tiles += [(f"{mine['images_per_s']:,.0f}", "images a second")]
    others = [run for name, run in best.items() if not name.startswith("ours")]
    if others and "ours" in best:
        fastest = min(others, key=lambda run: run["batch_s"])
        tiles.append((f"{fastest['batch_s'] / best['ours']['batch_s']:.2f}x", f"as fast as {fastest['engine']}"))
    if "ours-dense" in best and "ours" in best:
        tiles.append(
            (f"{best['ours-dense']['batch_s'] / best['ours']['batch_s']:.2f}x", "as fast as the same net dense")
        )
    model = facts["model"]
    if "weights" in model:
        tiles.append(
            (f"{model['weights_kept'] / max(model['weights'], 1):.1%}", f"of {model['weights']:,} weights kept")
        )
    tiles.append((bytes_text(model["file_bytes"]), "the file"))
    shown = "".join(
        f'<div class="tile{" first" * (i == 0)}"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for i, (value, name) in enumerate(tiles)
    )
    return f'<div class="tiles">{shown}</div>'


def _footer(facts: Facts) -> str:
    machine, setup = facts["machine"], facts["setup"]
    commit = f" of commit {machine['commit']}" if machine["commit"] else ""
    told = ", ".join(f"{key} {machine[key]}" for key in ("python", "numpy", "numba", "llvmlite"))
    told = f"lhc {machine['lhc']}{commit}; {told}; {machine['system']}; {cores_text(machine)}."
    how = (
        f"Each engine in a process of its own; answers compared with the float64 reference before any clock started; "
        f"engines in turns, {setup['time_s']:g} s each after {setup['warmup_s']:g} s of warm-up; "
        f"pinned: {setup['pin']}; {load_text(machine)}."
    )
    command = f"<p>Made by <code>{escape(facts['command'])}</code></p>"
    return f"<footer>{command}<p>{escape(how)}</p><p>{escape(told)}</p></footer>"
