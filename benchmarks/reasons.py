"""Why a sparse net is faster than its dense twin, or is not: what the plans predict, beside what was measured."""

from collections.abc import Mapping, Sequence

from runtime.commands.report import time_text
from runtime.facts import LayerFacts

CLEAR_GAIN = 1.05
LARGE_SHARE = 0.25
LAYERS_NAMED = 3


def explain(batch: int, medians: Mapping[str, float], rows: Mapping[str, Sequence[LayerFacts]]) -> list[str]:
    """Sentences about one batch size.

    Parameters
    ----------
    medians : seconds of a run of "dense", "lhc", and "nothing": a net that does nothing worth mentioning
    rows : what the plans of "dense" and "lhc" say of their layers for this batch size
    """
    dense, lhc = (sum(row.predicted_cycles for row in rows[kind]) for kind in ("dense", "lhc"))
    measured, predicted, fixed = medians["dense"] / medians["lhc"], dense / lhc, medians["nothing"] / medians["lhc"]
    lines = [
        f"Batch {batch}: {_verdict(measured)}. Its layers take {predicted:.2f}x fewer cycles by the plans' prediction; "
        f"a run without layers takes {time_text(medians['nothing'])}, {fixed:.0%} of LHC's."
    ]
    if measured < CLEAR_GAIN:
        lines += [f"  Why not: {reason}" for reason in _obstacles(predicted, fixed, rows)]
    lines.append(f"  LHC's cycles go to {_largest_layers(rows)}.")
    return lines


def _verdict(measured: float) -> str:
    if measured >= CLEAR_GAIN:
        return f"LHC is {measured:.2f}x faster"
    return f"LHC is NOT faster ({measured:.2f}x)"


def _obstacles(predicted: float, fixed: float, rows: Mapping[str, Sequence[LayerFacts]]) -> list[str]:
    """What keeps a net with fewer weights from being faster."""
    found = []
    if fixed >= LARGE_SHARE:
        found.append(
            f"{fixed:.0%} of its time is what any run costs on images this small: taking them in and out, calling, "
            "starting threads. Weights do not change it."
        )
    full = sum(row.predicted_cycles for row in rows["lhc"] if row.density is None or row.density == 1.0)
    share = full / sum(row.predicted_cycles for row in rows["lhc"])
    if share >= LARGE_SHARE:
        found.append(f"{share:.0%} of its cycles are in layers without masks (first layer, pooling, classifier).")
    if predicted < CLEAR_GAIN:
        slow = max((row for row in rows["lhc"] if row.density not in (None, 1.0)), key=lambda row: row.predicted_cycles)
        found.append(f"its layers would not be faster by themselves; {slow.layer}: {slow.why}.")
    return found or ["the plan promises more than was measured: the machine was disturbed, or the prediction is wrong."]


def _largest_layers(rows: Mapping[str, Sequence[LayerFacts]]) -> str:
    """The layers that cost most, with their shares and what each gains over the dense net's."""
    total = sum(row.predicted_cycles for row in rows["lhc"])
    dense = {row.layer: row.predicted_cycles for row in rows["dense"]}
    largest = sorted(rows["lhc"], key=lambda row: -row.predicted_cycles)[:LAYERS_NAMED]
    return ", ".join(
        f"{row.layer} ({row.predicted_cycles / total:.0%}"
        + (f", density {row.density:.2f}" if row.density is not None else "")
        + (f", {dense[row.layer] / row.predicted_cycles:.1f}x fewer than dense)" if row.layer in dense else ")")
        for row in largest
    )
