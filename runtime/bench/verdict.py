"""What sparsity buys a net here, where it does not, and why: in sentences, from what was measured."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.bench.break_even import DENSITIES
from runtime.bench.machine import LOUD_CORES
from runtime.bench.tables import NAMED, at_most_threads, first_node, named
from runtime.commands.report import time_text

Facts = Mapping[str, Any]
LARGE_SHARE = 0.05  # of the time, from which on it is worth a sentence
EVEN = 0.95  # of the dense time: a layer that takes more is not faster by more than noise
FULL_ROOF = 0.6  # share of the machine's memory rate from which on memory is what keeps a layer


@dataclass(frozen=True)
class Verdict:
    """A sentence, and what stands against it or explains it."""

    headline: str
    reasons: tuple[str, ...]


def verdict(facts: Facts) -> Verdict | None:
    """The verdict for the most threads; None where ours was not timed, or a file's operators are not ours."""
    best = at_most_threads(facts)
    if "ours" not in best or "weights" not in facts["model"]:
        return None
    mine, dense = best["ours"], best.get("ours-dense")
    kept, weights = facts["model"]["weights_kept"], facts["model"]["weights"]
    if kept == weights:
        text = "This net has all its weights: there is nothing that sparsity saves. `lhc-run prune` drops the smallest."
    elif dense is None:
        text = f"This net keeps {kept / weights:.1%} of its weights. What that buys is told by the engine ours-dense."
    else:
        text = f"{_word(mine, dense)} with {kept / weights:.1%} of its weights, this net runs {_gain(mine, dense)}."
    others = [run for name, run in best.items() if not name.startswith("ours")]
    if others:
        text += " " + _beside(mine, min(others, key=lambda run: run["batch_s"]))
    else:
        text += " No other engine was measured."
    return Verdict(text, tuple(_reasons(facts)))


def lines(facts: Facts) -> Iterator[str]:
    """The verdict as text."""
    found = verdict(facts)
    if found is not None:
        yield from ("", found.headline, *(f"  - {reason}" for reason in found.reasons))


def _word(mine: Facts, dense: Facts) -> str:
    if not _apart(mine, dense):
        return "Sparsity makes no clear difference here:"
    return "Sparsity pays here:" if mine["batch_s"] < dense["batch_s"] else "Sparsity does not pay here:"


def _gain(mine: Facts, dense: Facts) -> str:
    unclear = "" if _apart(mine, dense) else ", and the middle 90 % of the runs of both overlap"
    return f"{dense['batch_s'] / mine['batch_s']:.2f}x as fast as with all of them{unclear}"


def _beside(mine: Facts, other: Facts) -> str:
    """Beside the fastest other engine."""
    name, gain = other["engine"], other["batch_s"] / mine["batch_s"]
    if not _apart(mine, other):
        return f"The fastest other engine, {name}, takes about as long: {gain:.2f}x."
    if gain > 1:
        return f"It is {gain:.2f}x as fast as the fastest other engine, {name}."
    return f"Another engine is faster: {name}, {1 / gain:.2f}x as fast as ours."


def _apart(a: Facts, b: Facts) -> bool:
    """Whether the middle 90 % of the calls of two runs do not overlap."""
    return bool(a["high_s"] < b["low_s"] or b["high_s"] < a["low_s"])


def _reasons(facts: Facts) -> Iterator[str]:
    rows, here = facts["layers"], facts["machine"]
    if max(here["busy_cores"], here["busy_cores_meanwhile"] or 0.0) > LOUD_CORES or here["throttled_s"] > 0:
        yield "Other programs or a CPU quota disturbed this: measure again on a quiet machine before you believe it."
    masked = [row for row in rows if row["density"] is not None and row["density"] < 1]
    best = at_most_threads(facts)
    if masked and "ours-dense" in best:
        nominal, kept = (sum(row[key] for row in rows) for key in ("macs_nominal", "macs_kept"))
        time = best["ours"]["batch_s"] / best["ours-dense"]["batch_s"]
        yield f"Of the dense net's multiply-adds {kept / nominal:.1%} are left, of its time {time:.1%}."
    yield from _faster_on_fewer_threads(facts)
    yield from _where_it_buys(masked)
    yield from _without_masks(rows)
    yield from _not_faster(masked, facts["break_even"])
    yield from _kept_by_memory(masked)
    yield from _faster_elsewhere(masked, facts["break_even"])
    profile = facts["profile"]
    if profile is not None and rows:
        beside = (profile["import_s"] + profile["export_s"] + max(profile["rest_s"], 0.0)) / profile["run_s"]
        if beside >= LARGE_SHARE:
            yield f"{beside:.0%} of a run copies images in and results out, and starts threads: no weight changes that."


def _faster_on_fewer_threads(facts: Facts) -> Iterator[str]:
    """Engines that the most threads, which all else speaks of, do not suit."""
    for name, most in at_most_threads(facts).items():
        runs = [run for run in facts["runs"] if run["engine"] == name and "batch_s" in run]
        best = min(runs, key=lambda run: run["batch_s"])
        if best["batch_s"] < most["batch_s"] and _apart(best, most):
            yield (
                f"{name} is faster with --threads {best['threads']} than {most['threads']}: "
                f"{time_text(best['batch_s'])} a batch, not {time_text(most['batch_s'])}."
            )


def _where_it_buys(masked: Sequence[Facts]) -> Iterator[str]:
    gains = {row["layer"]: row["dense_seconds"] / row["seconds"] for row in masked if row["dense_seconds"]}
    if gains:
        faster = sum(gain * EVEN > 1 for gain in gains.values())
        most, least = (pick(gains, key=lambda name: gains[name]) for pick in (max, min))
        yield (
            f"{faster} of {len(gains)} layers with missing weights are faster than dense: from {gains[least]:.1f}x "
            f"({first_node(least)}) to {gains[most]:.1f}x ({first_node(most)})."
        )


def _without_masks(rows: Sequence[Facts]) -> Iterator[str]:
    """Layers whose time no missing weight shortens."""
    whole = [row for row in rows if row["density"] is None or row["density"] == 1]
    share = sum(row["share_of_run"] for row in whole)
    if share >= LARGE_SHARE and len(whole) < len(rows):
        largest = sorted((row for row in whole if row["share_of_run"] >= 0.01), key=lambda row: -row["share_of_run"])
        told = named([f"{first_node(row['layer'])} ({row['share_of_run']:.0%})" for row in largest])
        yield f"{share:.0%} of the time is in layers that miss no weights: {told}. Sparsity does not shorten these."


def _not_faster(masked: Sequence[Facts], break_even: Sequence[Facts]) -> Iterator[str]:
    """Layers that gain nothing, each with its reason."""
    limits = {name: found["break_even"]["ours"] for found in break_even for name in found["layers"]}
    slow = [row for row in masked if row["dense_seconds"] and row["seconds"] > EVEN * row["dense_seconds"]]
    for row in sorted(slow, key=lambda row: -row["seconds"])[:NAMED]:
        name, limit = first_node(row["layer"]), limits.get(first_node(row["layer"]))
        why = f"Its kernel: {row['why']}."
        if limit is not None and row["density"] > limit:
            why = f"Its shape is faster sparse only under a density of {limit:.2f}."
        yield (
            f"{name} is not faster: density {row['density']:.2f}, {row['seconds'] / row['dense_seconds']:.2f} of its "
            f"dense time. {why}"
        )
    if len(slow) > NAMED:
        yield f"{len(slow) - NAMED} more layers with missing weights are not faster than dense."


def _kept_by_memory(masked: Sequence[Facts]) -> Iterator[str]:
    kept = [row for row in masked if row["limited_by"] == "memory" and (row["share_of_roof"] or 0.0) >= FULL_ROOF]
    if kept:
        told = named([first_node(row["layer"]) for row in kept])
        yield f"Moving data takes the time of {told}, not multiply-adds: dropping more weights would help little."


def _faster_elsewhere(masked: Sequence[Facts], break_even: Sequence[Facts]) -> Iterator[str]:
    """Layers that another engine runs dense faster than ours runs them sparse."""
    density = {first_node(row["layer"]): row["density"] for row in masked}
    for found in break_even:
        limit, engine = found["break_even"]["fastest"], found["fastest_dense"]
        above = [name for name in found["layers"] if density.get(name, 0.0) > limit]
        if engine != "ours" and above:
            needed = f"under a density of {limit:.2f}" if limit else f"at no density measured, down to {DENSITIES[0]:g}"
            yield f"{engine} runs {named(above)} dense faster than ours sparse; ours would be faster {needed}."
