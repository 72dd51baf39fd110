"""What was measured as text for a terminal, and as CSV for spreadsheets."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runtime.commands.arguments import where
from runtime.commands.report import shape_text, table, time_text

Facts = Mapping[str, Any]
INDENT = "  "
NAMED = 3  # of many names
RUN_COLUMNS = (
    *("engine", "version", "threads", "streams", "median_s", "low_s", "high_s", "count", "batch_s", "images_per_s"),
    *("import_s", "load_s", "compile_s", "plan_s", "first_run_s", "loaded_bytes", "peak_bytes", "relative_difference"),
)
LAYER_COLUMNS = (
    *("layer", "op", "shape", "out_shape", "density", "macs_nominal", "macs_kept", "macs_executed", "seconds"),
    *("share_of_run", "real_gflops", "dense_equivalent_gflops", "share_of_roof", "limited_by", "weight_bytes"),
    *("kernel", "why"),
)


def at_most_threads(facts: Facts) -> dict[str, Facts]:
    """The timed runs with the most threads, by engine."""
    most = max(facts["setup"]["threads"])
    return {run["engine"]: run for run in facts["runs"] if run["threads"] == most and "batch_s" in run}


def first_node(layer: str) -> str:
    """Of the nodes that a layer stands for, the first one, after which people call it."""
    return layer.partition("+")[0]


def layer_name(layer: str) -> str:
    """The first node, and how many more are done in it."""
    more = layer.count("+")
    return first_node(layer) + f" +{more}" * bool(more)


def named(names: Sequence[str]) -> str:
    """The first few, and how many more."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def shape_name(found: Facts) -> str:
    """A layer shape of break-even: its kernel, its picture, its pooling."""
    pooled = ", pooled" if found["pool"] else ""
    return f"{shape_text(found['kernel'])}, {shape_text(found['shape'][:2])}{pooled}"


def lines(facts: Facts) -> Iterator[str]:
    """The text for people."""
    setup, machine = facts["setup"], facts["machine"]
    yield (f"{facts['file']}: batch {setup['batch']}, {setup['scenario']}, on {machine['cpu']}, {cores_text(machine)}")
    yield from (f"{INDENT}{note}" for note in facts["notes"])
    yield ""
    yield from _engines(facts)
    for name, found in facts["scaling"].items():
        yield from ("", *_scaling(name, found))
    if facts["layers"]:
        yield from ("", *_layers(facts))
    if facts["break_even"]:
        yield from ("", *_break_even(facts))
    if facts["interrupted"]:
        yield from ("", "interrupted: this is what was measured until then")


def _engines(facts: Facts) -> Iterator[str]:
    yield "engines, in turns; answers compared with the reference first. ready: load, compile, plan and first run"
    head = ("  engine", "threads", "a batch", "5 %", "95 %", "runs", "images/s", "ready", "peak memory", "difference")
    rows = []
    for run in facts["runs"]:
        ready = sum(seconds for phase, seconds in run["phases_s"].items() if phase != "import")
        timed = ("median_s", "low_s", "high_s")
        times = [time_text(run[key]) for key in timed] if "median_s" in run else [""] * 3
        rows.append(
            (
                f"{INDENT}{run['engine']}",
                f"{run['threads']}" + (f" in {run['streams']} streams" if run["streams"] > 1 else ""),
                *times,
                f"{run.get('count', 0):,}",
                f"{run['images_per_s']:,.0f}" if "images_per_s" in run else "",
                time_text(ready),
                bytes_text(run["memory_bytes"].get("peak")),
                f"{run['answer']['relative_difference']:.1e}",
            )
        )
    yield from table(head, rows)
    yield from (f"{INDENT}{gain}" for gain in gains(facts))
    packed = [run["packed_bytes"] for run in facts["runs"] if run["engine"] == "ours" and run.get("packed_bytes")]
    yield from (f"{INDENT}packed weights of ours: {bytes_text(size)}" for size in packed[:1])


def gains(facts: Facts) -> list[str]:
    """How many times faster than each other engine ours is, at the largest number of threads."""
    threads = max(facts["setup"]["threads"])
    speed = {run["engine"]: run["batch_s"] for run in facts["runs"] if run["threads"] == threads and "batch_s" in run}
    mine = speed.pop("ours", None)
    return [] if mine is None else [f"ours is {other / mine:.2f}x as fast as {name}" for name, other in speed.items()]


def _scaling(name: str, found: Facts) -> Iterator[str]:
    limit = "no limit in sight" if found["serial_share"] == 0 else f"at most {found['limit']:.1f}x"
    yield f"{name} by threads; Amdahl's law fitted: {found['serial_share']:.1%} serial, {limit}"
    rows = [
        (f"{INDENT}{p['threads']}", time_text(p["seconds"]), f"{p['speedup']:.2f}x", f"{p['efficiency']:.0%}")
        for p in found["points"]
    ]
    yield from table(("  threads", "a batch", "speed-up", "efficiency"), rows)


def _layers(facts: Facts) -> Iterator[str]:
    roof, setup = facts["roof"], facts["setup"]
    yield f"layers on {where(setup['device'], facts['profile']['threads'])}: MACs of one image, GFLOP/s of the batch"
    if roof:
        memory = roof["bytes_per_s"][-1][1]
        yield f"this machine: {roof['flops'] / 1e9:,.0f} GFLOP/s of multiply-adds, {memory / 1e9:,.1f} GB/s from memory"
    head = ("  layer", "kernel", "density", "nominal", "kept", "executed", "time", "GFLOP/s", "as dense", "of roof")
    rows = [
        (
            f"{INDENT}{layer_name(row['layer'])}",
            row["kernel"],
            "" if row["density"] is None else f"{row['density']:.3f}",
            *(f"{row[key]:,}" if row["macs_nominal"] else "" for key in ("macs_nominal", "macs_kept", "macs_executed")),
            time_text(row["seconds"]),
            *(f"{row[key]:,.1f}" if row[key] else "" for key in ("real_gflops", "dense_equivalent_gflops")),
            "" if row["share_of_roof"] is None else f"{row['share_of_roof']:.0%}",
        )
        for row in facts["layers"]
    ]
    yield from table(head, rows, left=2)
    if setup["device"] == "cpu":
        yield f"{INDENT}why each kernel: lhc-run info {facts['file']} --batch {setup['batch']}"
    else:
        told = f"runtime.load({facts['file']!r}, device={setup['device']!r}).explain({setup['batch']})"
        yield f"{INDENT}why each kernel: {told}"


def _break_even(facts: Facts) -> Iterator[str]:
    yield "break-even: the density under which a layer is faster sparse than dense"
    head = ("  kernel", "input", "groups", "dense", "fastest dense", "", "against ours", "against fastest")
    rows = [
        (
            f"{INDENT}{shape_text(row['kernel'])}{', pooled' * (row['pool'] is not None)}",
            shape_text(row["shape"]),
            shape_text(row["groups"]),
            time_text(row["layer_s"][-1]),
            time_text(row["dense_read_s"][row["fastest_dense"]]),
            row["fastest_dense"],
            density_text(row["break_even"]["ours"]),
            density_text(row["break_even"]["fastest"]),
        )
        for row in facts["break_even"]
    ]
    yield from table(head, rows, left=3)


def density_text(density: float) -> str:
    """A break-even density in words where it is at an end."""
    return {0.0: "never", 1.0: "always"}.get(density, f"{density:.2f}")


def bytes_text(count: float | None) -> str:
    """`12.3 MiB`; nothing where it isn't known."""
    return f"{count / 2**20:,.1f} MiB" if count else ""


def load_text(machine: Facts) -> str:
    """What other programs did."""
    meanwhile = machine["busy_cores_meanwhile"]
    told = "not known" if meanwhile is None else f"{meanwhile:.2f} cores"
    return f"other load {machine['busy_cores']:.2f} cores before, {told} while engines were timed"


def cores_text(machine: Facts) -> str:
    """Cores, vectors, quota, and how far it is from core to core."""
    parts = [f"{machine['threads']} threads for {machine['cores']} cores", machine["vectors"]]
    if machine["quota_cores"] is not None:
        parts.append(f"CPU quota of {machine['quota_cores']:.3g} cores")
    if machine["nearest_core_ns"] is not None:
        ends = sorted({f"{machine[f'{end}_core_ns']:.0f}" for end in ("nearest", "farthest")}, key=float)
        parts.append(f"{' to '.join(ends)} ns from core to core")
    return ", ".join(parts)


def csv_of_runs(facts: Facts) -> str:
    """A row for each engine and number of threads."""
    rows = []
    for run in facts["runs"]:
        phases = {f"{phase.replace(' ', '_')}_s": seconds for phase, seconds in run["phases_s"].items()}
        memory = {f"{when}_bytes": size for when, size in run["memory_bytes"].items()}
        rows.append({**run, **phases, **memory, **run["answer"]})
    return _csv(RUN_COLUMNS, rows)


def csv_of_layers(facts: Facts) -> str:
    """A row for each layer."""
    shapes = ("shape", "out_shape")
    return _csv(LAYER_COLUMNS, [{**row, **{key: shape_text(row[key]) for key in shapes}} for row in facts["layers"]])


def _csv(columns: Sequence[str], rows: Sequence[Facts]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
