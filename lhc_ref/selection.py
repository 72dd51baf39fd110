"""What is measured after an epoch, and which epoch a stage goes on from."""

from typing import Any

from lhc_ref import ops
from lhc_ref.arrays import Array
from lhc_ref.config import TrainConfig

DENSITY_SLACK = 1.1

Record = dict[str, Any]
"""What was measured after an epoch: a line of the log."""


def measure(logits: Array, labels: Array) -> tuple[float, float]:
    """(accuracy, mean cross-entropy) of f[n, classes] logits; the accuracy is a share."""
    return float((logits.argmax(axis=1) == labels).mean()), float(ops.softmax_cross_entropy(logits, labels))


def density_limit(config: TrainConfig) -> float:
    """The largest density of the coarse stage's result: 1.1 times the target."""
    return DENSITY_SLACK * config.target_density


def qualifies(record: Record, config: TrainConfig) -> bool:
    """Whether an epoch may be the coarse stage's result: every channel enabled, and density within its limit."""
    return record["all_enabled"] and _excess(record, config) == 0.0


def merit(record: Record, config: TrainConfig) -> tuple[bool, float, float, float]:
    """What makes one epoch a better result than another: it qualifies, or is closer to it; then it validates better.

    With selection "accuracy", as the authors select, only how it validates counts.
    """
    anyhow = config.selection == "accuracy"
    return (
        anyhow or record["all_enabled"],
        0.0 if anyhow else -_excess(record, config),
        record["validation_accuracy"],
        -record["validation_loss"],
    )


def _excess(record: Record, config: TrainConfig) -> float:
    """How far an epoch's density is above the limit; a net without LHC layers has none to keep to."""
    if not config.learns_masks:
        return 0.0
    return max(0.0, record["density"] - density_limit(config))
