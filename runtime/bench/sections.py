"""The page's sections: a plot and a table of one subject each; an empty text where nothing was measured."""

from collections.abc import Mapping, Sequence
from html import escape
from math import prod
from typing import Any

from runtime.bench import charts
from runtime.bench import verdict as verdicts
from runtime.bench.charts import Bar, Line
from runtime.bench.markup import COUNTS, TIMES, Cell, bullets, card, details, number, scaled, table
from runtime.bench.tables import (
    at_most_threads,
    bytes_text,
    density_text,
    first_node,
    gains,
    layer_name,
    named,
    shape_name,
)
from runtime.commands.arguments import where
from runtime.commands.report import shape_text, time_text

Facts = Mapping[str, Any]
HUES = ("c1", "c2", "c3", "c4", "c5")
MOST_BARS = 20  # layers in a plot


def _kinds(facts: Facts) -> dict[str, str]:
    """A colour's class for each engine."""
    others = [name for name in dict.fromkeys(run["engine"] for run in facts["runs"]) if name != "ours"]
    return {"ours": "ours", **{name: HUES[i % len(HUES)] for i, name in enumerate(others)}}


def _times(rows: Sequence[Facts], keys: Sequence[str]) -> tuple[str, list[list[Cell]]]:
    """The unit of the times under these keys, and a column of cells for each."""
    unit, cells = scaled([row.get(key) for key in keys for row in rows], TIMES)
    return unit, [cells[i * len(rows) : (i + 1) * len(rows)] for i in range(len(keys))]


def verdict(facts: Facts) -> str:
    """What sparsity buys here, and what stands against it."""
    found = verdicts.verdict(facts)
    if found is None:
        return ""
    reasons = bullets(found.reasons, "reasons")
    return f'<section class="card verdict"><h2>{escape(found.headline)}</h2>{reasons}</section>'


def engines(facts: Facts) -> str:
    """Time of a batch by engine."""
    best = at_most_threads(facts)
    rows = [
        Bar(
            name,
            run["batch_s"],
            time_text(run["batch_s"]),
            "ours" if name == "ours" else "",
            low=run["low_s"] if run["streams"] == 1 else None,
            high=run["high_s"] if run["streams"] == 1 else None,
            tip=f"{name} {run['version']}: {time_text(run['median_s'])}, 5-95 % {time_text(run['low_s'])} to "
            f"{time_text(run['high_s'])}, {run['count']:,} runs",
        )
        for name, run in sorted(best.items(), key=lambda item: item[1]["batch_s"])
    ]
    chart = charts.bars(rows, "time of a batch by engine") if rows else ""
    text = "Median time of a batch with the most threads; the stroke spans the middle 90 % of the runs."
    said = f"<p>{escape('; '.join(gains(facts)))}</p>"
    return card("Engines", text, chart, said, details("All runs, and what it takes to be ready", _runs_table(facts)))


def _runs_table(facts: Facts) -> str:
    runs, phases = facts["runs"], ("load", "compile", "plan", "first run")
    unit, timed = _times(runs, ("batch_s", "low_s", "high_s"))
    ready_unit, ready = _times([run["phases_s"] for run in runs], phases)
    threads = [(f"{run['threads']}" + f" in {run['streams']}" * (run["streams"] > 1), run["threads"]) for run in runs]
    columns = [
        [(f"{run['engine']} {run['version']}", run["engine"]) for run in runs],
        threads,
        *timed,
        [number(run.get("count"), ",d") for run in runs],
        [number(run.get("images_per_s"), ",.0f") for run in runs],
        *ready,
    ]
    times = (f"a batch, {unit}", f"5 %, {unit}", f"95 %, {unit}")
    head = ("engine", "threads", *times, "runs", "images/s", *(f"{phase}, {ready_unit}" for phase in phases))
    return table(head, list(zip(*columns, strict=True)), _row_kinds(run["engine"] for run in runs))


def _row_kinds(names: Any) -> list[str]:
    return ["ours" if name == "ours" else "other" for name in names]


def memory(facts: Facts) -> str:
    """Peak memory by engine."""
    rows = []
    for name, run in at_most_threads(facts).items():
        memory = run["memory_bytes"]
        packed = f", {bytes_text(run['packed_bytes'])} of it packed weights" if run.get("packed_bytes") else ""
        tip = f"{name}: {bytes_text(memory['import'])} once imported, at most {bytes_text(memory['peak'])}{packed}"
        rows.append(
            Bar(
                name,
                memory["peak"],
                bytes_text(memory["peak"]),
                "ours" if name == "ours" else "",
                inner=memory["import"],
                tip=tip,
            )
        )
    if not rows:
        return ""
    packed_runs = [run for run in facts["runs"] if run.get("packed_bytes")]
    weights = f" Packed weights of ours: {bytes_text(packed_runs[0]['packed_bytes'])}." if packed_runs else ""
    text = f"Largest memory of each engine's process; the light part is there before any net is loaded.{weights}"
    return card("Memory", text, charts.bars(rows, "memory by engine"))


def scaling(facts: Facts) -> str:
    """Speed-up by threads."""
    if not facts["scaling"]:
        return ""
    kinds, lines = _kinds(facts), []
    threads = sorted(facts["setup"]["threads"])
    for name, found in facts["scaling"].items():
        lines.append(Line(name, [(p["threads"], p["speedup"]) for p in found["points"]], kinds[name]))
    lines.insert(0, Line("ideal", [(n, n / threads[0]) for n in threads], "ideal", dashed=True, marks=False))
    chart = charts.plot(lines, "speed-up by threads", "threads", "speed-up", x_ticks=threads)
    points = [(name, p, found) for name, found in facts["scaling"].items() for p in found["points"]]
    unit, (seconds,) = _times([p for _, p, _ in points], ("seconds",))
    rows = [
        (
            (name, name),
            number(p["threads"], "d"),
            cell,
            number(p["speedup"], ".2f"),
            number(p["efficiency"], ".0%"),
            number(found["serial_share"], ".1%"),
        )
        for (name, p, found), cell in zip(points, seconds, strict=True)
    ]
    head = ("engine", "threads", f"a batch, {unit}", "speed-up", "efficiency", "serial")
    text = "Speed-up over the fewest threads. Serial: the share that no thread shortens (Amdahl's law, fitted)."
    if len(threads) < 3:
        text += " Two points give a fit no chance to be wrong: see it as a way to write the speed-up."
    names = charts.legend((line.name, line.kind) for line in lines)
    numbers = table(head, rows, _row_kinds(name for name, _, _ in points))
    return card("Threads", text, chart, names, details("In numbers", numbers))


def roofline(facts: Facts) -> str:
    """Layers under the machine's limits."""
    roof, layers = facts["roof"], [row for row in facts["layers"] if row["real_gflops"]]
    if not roof or not layers:
        return ""
    peak, rates = roof["flops"] / 1e9, [rate / 1e9 for _, rate in roof["bytes_per_s"]]
    points = [(_intensity(row, facts["setup"]["batch"]), row) for row in layers]
    most = max(peak, *(row["dense_equivalent_gflops"] for row in layers))
    ends = (min(x for x, _ in points) / 2, max(*(x for x, _ in points), peak / rates[-1]) * 2)
    lines = [
        Line(f"{name}, {rate:,.1f} GB/s", _roof_line(rate, peak, ends), "roof", dashed=dashed, marks=False)
        for name, rate, dashed in (("first cache", max(rates), True), ("memory", rates[-1], False))
    ]
    lines += [
        Line(
            row["layer"],
            [(x, row["real_gflops"]), (x, row["dense_equivalent_gflops"])],
            "link",
            dashed=True,
            marks=False,
        )
        for x, row in points
        if row["density"] is not None and row["density"] < 1
    ]
    lines += [Line(row["layer"], [(x, row["dense_equivalent_gflops"])], "hollow") for x, row in points]
    lines += [Line(row["layer"], [(x, row["real_gflops"])], "ours") for x, row in points]
    chart = charts.plot(lines, "roofline", "FLOP per byte moved", "GFLOP/s", x_ticks=charts.log_ticks(*ends), log=True)
    names = (("work done", "ours"), ("the same as if dense", "hollow"), ("limits of this machine", "roof"))
    text = (
        f"Each layer under the machine's own limits, measured here: {peak:,.0f} GFLOP/s on {roof['threads']} threads, "
        f"{rates[-1]:,.1f} GB/s from memory (the lower slope), {max(rates):,.0f} GB/s from the first caches."
    )
    above = " Hollow dots above the roof: what nothing can reach that computes every weight." if most > peak else ""
    return card("Roofline", text + above, chart, charts.legend(names))


def _intensity(row: Facts, batch: int) -> float:
    return 2.0 * batch * row["macs_executed"] / row["moved_bytes"]


def _roof_line(rate: float, peak: float, ends: tuple[float, float]) -> list[tuple[float, float]]:
    low, high = ends
    corner = min(max(peak / rate, low), high)
    return [(low, min(peak, rate * low)), (corner, min(peak, rate * corner)), (high, min(peak, rate * high))]


def layer_times(facts: Facts) -> str:
    """Time by layer, beside that of the dense layer."""
    if not facts["layers"]:
        return ""
    profile = facts["profile"]
    copies = profile["import_s"] + profile["export_s"]
    slowest = sorted(facts["layers"], key=lambda row: -row["seconds"])[:MOST_BARS]
    rows = [_layer_bar(row) for row in facts["layers"] if row in slowest]
    left = len(facts["layers"]) - len(rows)
    place = where(facts["setup"]["device"], profile["threads"])
    text = (
        f"Where the time of a batch goes on {place}, medians of {profile['repeats']} runs. "
        "The light part is the least time that the machine's limits allow. Beside the layers, a run of "
        f"{time_text(profile['run_s'])} takes {time_text(copies)} to copy images in and results out, and "
        f"{time_text(max(profile['rest_s'], 0.0))} to start and join threads."
        + f" The {MOST_BARS} slowest layers; {left} others are in the table."
        * bool(left)
    )
    names = [("ours", "ours"), ("least possible", "inner")]
    names += [("the same layer dense", "ghost")] * any(row.ghost for row in rows)
    return card("Layers", text, charts.bars(rows, "time by layer"), charts.legend(names))


def _layer_bar(row: Facts) -> Bar:
    dense = row["dense_seconds"]
    gain = f", {dense / row['seconds']:.1f}x" if dense and row["seconds"] else ""
    tip = f"{row['layer']}: {row['kernel']}; {row['why']}"
    text = time_text(row["seconds"]) + gain
    return Bar(first_node(row["layer"]), row["seconds"], text, "ours", inner=row["least_s"], ghost=dense, tip=tip)


def break_even(facts: Facts) -> str:
    """Densities under which sparse wins."""
    if not facts["break_even"]:
        return ""
    densities = {name: row["density"] for row in facts["layers"] for name in row["layer"].split("+")}
    rows = []
    for found in facts["break_even"]:
        ours, fastest = found["break_even"]["ours"], found["break_even"]["fastest"]
        marks = [(fastest, "hollow", f"under {fastest:.2f} faster than {found['fastest_dense']} dense")]
        marks += [(ours, "ours", f"under {ours:.2f} faster than ours dense")]
        own = {name: densities[name] for name in found["layers"] if densities.get(name) is not None}
        marks += [(density, "tick", f"{name}: density {density:.3f}") for name, density in own.items()]
        rows.append((shape_name(found), marks))
    text = (
        "Each layer shape alone, at several densities: left of the dot, sparse is faster than dense on this machine. "
        "The strokes are the densities that this net's layers have: left of the dot is good. A dot at 1: always faster."
    )
    names = (("against ours dense", "ours"), ("against the fastest dense", "hollow"), ("this net", "tick"))
    chart = charts.dots(rows, "break-even density by layer shape", "density")
    return card("Break-even density", text, chart, charts.legend(names))


def layer_table(facts: Facts) -> str:
    """Everything known of each layer."""
    rows = facts["layers"]
    if not rows:
        return ""
    macs = ("macs_nominal", "macs_kept", "macs_executed")
    count_unit, counts = scaled([row[key] or None for key in macs for row in rows], COUNTS)
    unit, (seconds, dense) = _times(rows, ("seconds", "dense_seconds"))
    columns = [
        [(layer_name(row["layer"]), i) for i, row in enumerate(rows)],
        seconds,
        dense,
        [number(row["dense_seconds"] and row["dense_seconds"] / row["seconds"], ".2f") for row in rows],
        [number(row["density"], ".3f") for row in rows],
        [number(row["share_of_run"], ".1%") for row in rows],
        [(f"{shape_text(row['shape'])} > {shape_text(row['out_shape'])}", prod(row["shape"])) for row in rows],
        *([*counts[i * len(rows) : (i + 1) * len(rows)]] for i in range(3)),
        *([number(row[key] or None, ",.1f") for row in rows] for key in ("real_gflops", "dense_equivalent_gflops")),
        [number(row["share_of_roof"], ".0%") for row in rows],
        [(row["limited_by"] or "",) * 2 for row in rows],
    ]
    of_macs = f", {count_unit}" * bool(count_unit)
    head = (
        *("layer", f"time, {unit}", f"dense, {unit}", "x dense", "density", "of run", "shape"),
        *(f"{kind}{of_macs}" for kind in ("MACs", "kept", "executed")),
        *("GFLOP/s", "as dense", "of roof", "limit"),
    )
    text = (
        "Times are of a batch, MACs of one image. x dense: how many times as fast as ours runs the layer with all its "
        "weights. GFLOP/s: of executed multiply-adds, and as if the layer were dense. +2: with two nodes more."
    )
    why = [((row["layer"],) * 2, (row["kernel"],) * 2, (row["why"],) * 2) for row in rows]
    reasons = details("Which kernel each layer runs, and why", table(("layer", "kernel", "why"), why))
    return card("Layers in numbers", text, table(head, list(zip(*columns, strict=True))), reasons, wide=True)


def break_even_table(facts: Facts) -> str:
    """Times and break-even densities of each layer shape."""
    rows = facts["break_even"]
    if not rows:
        return ""
    densities = rows[0]["densities"]
    times = [
        {
            **{str(i): seconds for i, seconds in enumerate(found["layer_s"])},
            "fastest": found["dense_read_s"][found["fastest_dense"]],
        }
        for found in rows
    ]
    unit, timed = _times(times, [*map(str, range(len(densities))), "fastest"])
    columns = [
        [(shape_name(found),) * 2 for found in rows],
        [(shape_text(found["groups"]), prod(found["groups"])) for found in rows],
        *(
            [(density_text(found["break_even"][key]), found["break_even"][key]) for found in rows]
            for key in ("ours", "fastest")
        ),
        *timed,
        [(found["fastest_dense"],) * 2 for found in rows],
        [(named(found["layers"]),) * 2 for found in rows],
    ]
    measured = [f"at {density:g}" for density in densities[:-1]]
    head = (
        *("layer shape", "groups", "against ours", "against fastest", *measured, "dense", "fastest dense", "by"),
        "layers",
    )
    text = (
        "Layer shape: rows and columns of the kernel, channels in and out; image. Against: the density under which "
        f"sparse is faster than dense. Times are the layer's own for a batch, in {unit}; that of the fastest dense "
        "engine includes reading the output once. Groups: channels that share a pattern."
    )
    return card("Break-even in numbers", text, table(head, list(zip(*columns, strict=True))), wide=True)
