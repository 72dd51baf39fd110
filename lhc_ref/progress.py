"""Where a training run stands."""

from dataclasses import dataclass, field

from lhc_ref.selection import Record


@dataclass
class Progress:
    """Where a run stands; plain values that JSON holds exactly.

    Attributes
    ----------
    stage : "coarse" | "fine" | "done"
    epoch, step : epochs done in this stage, steps done in this epoch
    loss_sum, hits : over this epoch's images so far
    base : the regularizer's `s0`, known after the first epoch
    chosen : stage -> record of the epoch it selected (so far)
    history : a record for each epoch
    seconds : spent so far, over all its processes
    blas_threads : that NumPy used, one after the other where a resumed run had others
    result : of the whole run, when it is done
    """

    stage: str = "coarse"
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    hits: int = 0
    base: float = 0.0
    chosen: dict[str, Record] = field(default_factory=dict)
    history: list[Record] = field(default_factory=list)
    seconds: float = 0.0
    blas_threads: list[int] = field(default_factory=list)
    result: Record = field(default_factory=dict)
