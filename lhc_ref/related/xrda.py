"""xRDA: extended regularized dual averaging, which makes weights exactly zero while it trains."""

from collections.abc import Collection, Mapping
from math import exp

from lhc_ref.arrays import Array, namespace
from lhc_ref.errors import ConfigError
from lhc_ref.optim import checked_weight

PARTS = ("size", "threshold", "dual", "velocity")


class XRDA:
    """Gradient steps on a dual z with momentum, then a soft threshold that is higher for weights that have been small.

    With `s` the rate, each update is

        a <- a*e^(-s/bts) + (1 - e^(-s/bts))*|w|         running size of each weight
        b <- av*b + s*F / (1 + (F-1)*a/max(a))           threshold; the fraction is 0 where all sizes are
        z <- av*z + (1-av)*w                             av = 0: proximal SGD; av = 1: dual averaging
        v <- v*e^(-s/ts) + (1 - e^(-s/ts))*(g + decay*w)
        z <- z - s*v
        w <- sign(z) * max(|z| - lam*b, 0)

    with a, b, z and v zero at first.

    Parameters
    ----------
    lam : weight of the 1-norm, >= 0
    averaging : av, in [0, 1]; an attribute, to be changed between updates
    momentum_time, size_time : ts and bts, >= 0, in units of the rate; 0 remembers nothing
    weight_decay : >= 0
    factor : F >= 1; 1 gives every weight the same threshold
    sparse : names of the weights that are thresholded; None: all. The others take w = z.

    The defaults are the authors' example for VGG19, which has a rate of 1.

    Attributes
    ----------
    state : "size.NAME" (a), "threshold.NAME" (b), "dual.NAME" (z), "velocity.NAME" (v) -> f[...]
        Made (zero) when a weight is first updated; owned by the optimizer, and all that it keeps.

    Raises
    ------
    ConfigError : a parameter out of range.

    Notes
    -----
    Source: Siegel et al., *Training Sparse Neural Networks using Compressed Sensing* (arXiv 2008.09661), and the
    authors' code.
    """

    def __init__(
        self,
        lam: float = 1e-6,
        *,
        averaging: float = 0.0,
        momentum_time: float = 9.5,
        size_time: float = 9.5,
        weight_decay: float = 5e-4,
        factor: float = 500.0,
        sparse: Collection[str] | None = None,
    ) -> None:
        limits = {
            "lam": (lam, 0.0, float("inf")),
            "averaging": (averaging, 0.0, 1.0),
            "momentum_time": (momentum_time, 0.0, float("inf")),
            "size_time": (size_time, 0.0, float("inf")),
            "weight_decay": (weight_decay, 0.0, float("inf")),
            "factor": (factor, 1.0, float("inf")),
        }
        for name, (value, low, high) in limits.items():
            if not low <= value <= high:
                raise ConfigError(f"{name}: expected a number in [{low:g}, {high:g}], got {value}. Change it.")
        self.lam, self.averaging, self.weight_decay, self.factor = lam, averaging, weight_decay, factor
        self.momentum_time, self.size_time, self.sparse = momentum_time, size_time, sparse
        self.state: dict[str, Array] = {}

    def update(self, weights: Mapping[str, Array], gradients: Mapping[str, Array], rate: float) -> None:
        """Change the weights in place by one step; arguments and errors as for `SGD.update`."""
        for name, gradient in gradients.items():
            weight = checked_weight(weights, name, gradient)
            xp = namespace(weight)
            for part in PARTS:
                self.state.setdefault(f"{part}.{name}", xp.zeros_like(weight))
            size, threshold, dual, velocity = (self.state[f"{part}.{name}"] for part in PARTS)
            _average(size, abs(weight), rate, self.size_time)
            threshold *= self.averaging
            if size.max() > 0:
                threshold += rate * self.factor / (1 + (self.factor - 1) * (size / size.max()))
            dual *= self.averaging
            dual += (1 - self.averaging) * weight
            _average(velocity, gradient + self.weight_decay * weight, rate, self.momentum_time)
            dual -= rate * velocity
            weight[...] = dual
            if self.sparse is None or name in self.sparse:
                weight[...] = xp.sign(dual) * xp.maximum(abs(dual) - self.lam * threshold, 0)


def _average(running: Array, value: Array, rate: float, time: float) -> None:
    """Move a running mean on by `rate`, where it forgets all but 1/e in `time`."""
    keep = exp(-rate / time) if time > 0 else 0.0
    running *= keep
    running += (1 - keep) * value
