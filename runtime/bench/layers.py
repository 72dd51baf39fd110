"""Layer by layer: what was executed, how long it took, and what share of the machine's limits that is."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from runtime.bench.roof import Roof
from runtime.facts import LayerFacts

BYTES = 4  # of a float32


def layer_facts(
    rows: Sequence[LayerFacts],
    profile: Mapping[str, Any],
    dense: Mapping[str, Any] | None,
    roof: Roof | None,
    lanes: int,
) -> list[dict[str, Any]]:
    """A dict for each layer, in the order of `Model.explain`.

    Parameters
    ----------
    rows : what the plan says
    profile, dense : the fields of `runtime.profile.Profile`: of the net, and of its dense twin if there is one
    roof : the machine's limits for as many threads; None where there are none to measure
    lanes : images that a worker takes at a time

    Notes
    -----
    FLOP/s count a multiply-add as two: *real* those of kept weights that fall on pixels, *dense-equivalent* those of
    the layer as if no weight were missing. The bytes of the roofline are those of weights, inputs and outputs, each
    moved once a batch; those of a worker decide which cache they come from.
    """
    batch, found = int(profile["batch"]), []
    for facts, timed in zip(rows, profile["layers"], strict=True):
        seconds = float(timed["seconds"])
        image_bytes = BYTES * (prod(facts.shape) + prod(facts.out_shape))
        executed, nominal = 2.0 * batch * facts.macs_executed, 2.0 * batch * facts.macs_nominal
        entry: dict[str, Any] = {
            "layer": facts.layer,
            "op": facts.op,
            "shape": list(facts.shape),
            "out_shape": list(facts.out_shape),
            "density": facts.density,
            "macs_nominal": facts.macs_nominal,
            "macs_kept": facts.macs_kept,
            "macs_executed": facts.macs_executed,
            "seconds": seconds,
            "dense_seconds": dense_seconds(facts.layer, dense["layers"] if dense else ()),
            "share_of_run": float(timed["share"]),
            "real_gflops": executed / seconds / 1e9 if seconds else 0.0,
            "dense_equivalent_gflops": nominal / seconds / 1e9 if seconds else 0.0,
            "weight_bytes": facts.bytes,
            "moved_bytes": batch * image_bytes + facts.bytes,
            "kernel": timed["kernel"],
            "why": facts.why,
            "least_s": None,
            "limited_by": None,
            "share_of_roof": None,
        }
        if roof is not None and seconds:
            worker_bytes = min(batch, lanes) * image_bytes + facts.bytes
            least, limit = roof.seconds(executed, entry["moved_bytes"], worker_bytes)
            entry |= {"least_s": least, "limited_by": limit, "share_of_roof": least / seconds}
        found.append(entry)
    return found


def dense_seconds(layer: str, dense: Sequence[Mapping[str, Any]]) -> float | None:
    """What the dense twin takes for the nodes of a layer; None where it fuses them with others'."""
    names = set(layer.split("+"))
    parts = [one for one in dense if set(one["layer"].split("+")) <= names]
    covered = {name for one in parts for name in one["layer"].split("+")}
    return sum(float(one["seconds"]) for one in parts) if covered == names else None
