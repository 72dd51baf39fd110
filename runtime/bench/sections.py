"""The page's sections: a plot and a table of one subject each; an empty text where nothing was measured."""

from collections.abc import Mapping
from html import escape
from math import prod
from typing import Any

from runtime.bench import charts
from runtime.bench.charts import Bar, Line
from runtime.bench.markup import card, number, seconds, table
from runtime.bench.tables import bytes_text, density_text, gains
from runtime.commands.report import shape_text, time_text

Facts = Mapping[str, Any]
LAYER_HEAD = (
    *("layer", "shape", "density", "MACs nominal", "kept", "executed", "time", "GFLOP/s", "as dense", "of roof"),
    *("limit", "kernel", "why"),
)
HUES = ("c1", "c2", "c3", "c4", "c5")


def at_most_threads(facts: Facts) -> dict[str, Facts]:
    """The timed runs with the most threads, by engine."""
    most = max(facts["setup"]["threads"])
    return {run["engine"]: run for run in facts["runs"] if run["threads"] == most and "batch_s" in run}


def _kinds(facts: Facts) -> dict[str, str]:
    """A colour's class for each engine."""
    others = [name for name in dict.fromkeys(run["engine"] for run in facts["runs"]) if name != "ours"]
    return {"ours": "ours", **{name: HUES[i % len(HUES)] for i, name in enumerate(others)}}


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
    head = ("engine", "threads", "a batch", "5 %", "95 %", "runs", "images/s", "load", "compile", "plan", "first run")
    lines, kinds = [], []
    for run in facts["runs"]:
        timed = "batch_s" in run
        lines.append(
            (
                (f"{run['engine']} {run['version']}", run["engine"]),
                (f"{run['threads']}" + f" in {run['streams']}" * (run["streams"] > 1), run["threads"]),
                *(seconds(run.get(key)) for key in ("batch_s", "low_s", "high_s")),
                number(run.get("count"), ",d"),
                number(run["images_per_s"] if timed else None, ",.0f"),
                *(seconds(run["phases_s"].get(phase)) for phase in ("load", "compile", "plan", "first run")),
            )
        )
        kinds.append("ours" if run["engine"] == "ours" else "other")
    chart = charts.bars(rows, "time of a batch by engine") if rows else ""
    text = "Median time of a batch with the most threads; the stroke spans the middle 90 % of the runs."
    said = f"<p>{escape('; '.join(gains(facts)))}</p>"
    details = (
        f"<details><summary>All runs, and what it takes to be ready</summary>{table(head, lines, kinds)}</details>"
    )
    return card("Engines", text, chart, said, details)


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
    rows, row_kinds = [], []
    for name, found in facts["scaling"].items():
        for p in found["points"]:
            rows.append(
                (
                    (name, name),
                    number(p["threads"], "d"),
                    seconds(p["seconds"]),
                    number(p["speedup"], ".2f"),
                    number(p["efficiency"], ".0%"),
                    number(found["serial_share"], ".1%"),
                )
            )
            row_kinds.append("ours" if name == "ours" else "other")
    head = ("engine", "threads", "a batch", "speed-up", "efficiency", "serial")
    text = "Speed-up over the fewest threads. Serial: the share that no thread shortens (Amdahl's law, fitted)."
    names = charts.legend((line.name, line.kind) for line in lines)
    details = f"<details><summary>In numbers</summary>{table(head, rows, row_kinds)}</details>"
    return card("Threads", text, chart, names, details)


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
    ticks = charts.powers(*ends)[1:-1]
    chart = charts.plot(lines, "roofline", "FLOP per byte moved", "GFLOP/s", x_ticks=ticks, log=True)
    names = (("work done", "ours"), ("the same as if dense", "hollow"), ("limits of this machine", "roof"))
    text = (
        f"Each layer under the machine's own limits, measured here: {peak:,.0f} GFLOP/s on {roof['threads']} threads, "
        f"{rates[-1]:,.1f} GB/s from memory (the lower slope), {max(rates):,.0f} GB/s from the first caches."
    )
    above = " A hollow dot above the roof is what no dense engine can reach here." if most > peak else ""
    return card("Roofline", text + above, chart, charts.legend(names))


def _intensity(row: Facts, batch: int) -> float:
    return 2.0 * batch * row["macs_executed"] / row["moved_bytes"]


def _roof_line(rate: float, peak: float, ends: tuple[float, float]) -> list[tuple[float, float]]:
    low, high = ends
    corner = min(max(peak / rate, low), high)
    return [(low, min(peak, rate * low)), (corner, min(peak, rate * corner)), (high, min(peak, rate * high))]


def layer_times(facts: Facts) -> str:
    """Time by layer."""
    if not facts["layers"]:
        return ""
    profile = facts["profile"]
    copies = profile["import_s"] + profile["export_s"]
    rows = [
        Bar(
            row["layer"],
            row["seconds"],
            time_text(row["seconds"]),
            "ours",
            inner=row["least_s"],
            tip=f"{row['layer']}: {row['kernel']}; {row['why']}",
        )
        for row in facts["layers"]
    ]
    text = (
        f"Where the time of a batch goes on {profile['threads']} threads, medians of {profile['repeats']} runs. "
        "The light part is the least time that the machine's limits allow. Beside the layers, a run of "
        f"{time_text(profile['run_s'])} takes {time_text(copies)} to copy images in and results out, and "
        f"{time_text(max(profile['rest_s'], 0.0))} to start and join threads."
    )
    return card("Layers", text, charts.bars(rows, "time by layer"))


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
        rows.append((_shape_name(found), marks))
    text = (
        "Each layer shape alone, at several densities: under the dot, sparse is faster than dense on this machine. "
        "The stroke is the density that the net has."
    )
    names = (("against ours dense", "ours"), ("against the fastest dense", "hollow"), ("this net", "tick"))
    chart = charts.dots(rows, "break-even density by layer shape", "density")
    return card("Break-even density", text, chart, charts.legend(names))


def _shape_name(found: Facts) -> str:
    pooled = ", pooled" if found["pool"] else ""
    return f"{shape_text(found['kernel'])}, {shape_text(found['shape'][:2])}{pooled}"


def layer_table(facts: Facts) -> str:
    """Everything known of each layer."""
    if not facts["layers"]:
        return ""
    rows = [
        (
            (row["layer"], i),
            (f"{shape_text(row['shape'])} > {shape_text(row['out_shape'])}", prod(row["shape"])),
            number(row["density"], ".3f"),
            *(number(row[key] or None, ",d") for key in ("macs_nominal", "macs_kept", "macs_executed")),
            seconds(row["seconds"]),
            *(number(row[key] or None, ",.1f") for key in ("real_gflops", "dense_equivalent_gflops")),
            number(row["share_of_roof"], ".0%"),
            (row["limited_by"] or "",) * 2,
            (row["kernel"],) * 2,
            (row["why"],) * 2,
        )
        for i, row in enumerate(facts["layers"])
    ]
    text = "MACs are of one image; GFLOP/s of executed multiply-adds, and as if the layer were dense, of the batch."
    return card("Layers in numbers", text, table(LAYER_HEAD, rows, why=True), wide=True)


def break_even_table(facts: Facts) -> str:
    """Times and break-even densities of each layer shape."""
    if not facts["break_even"]:
        return ""
    rows = [
        (
            (_shape_name(found),) * 2,
            (shape_text(found["groups"]), prod(found["groups"])),
            *(seconds(time) for time in found["layer_s"]),
            seconds(found["dense_read_s"][found["fastest_dense"]]),
            (found["fastest_dense"],) * 2,
            *((density_text(found["break_even"][key]), found["break_even"][key]) for key in ("ours", "fastest")),
            (", ".join(found["layers"]),) * 2,
        )
        for found in facts["break_even"]
    ]
    measured = [f"at {density:g}" for density in facts["break_even"][0]["densities"][:-1]]
    ends = ("dense", "fastest dense", "by", "against ours", "against fastest", "layers")
    text = (
        "The layer's own time for a batch by density, and the density under which sparse is faster. The fastest dense "
        "engine's time includes reading the output once. Groups share a pattern."
    )
    return card(
        "Break-even in numbers", text, table(("layer shape", "groups", *measured, *ends), rows, why=True), wide=True
    )
