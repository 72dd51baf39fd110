"""Adam: steps scaled by running means of the gradient and of its square."""

from collections.abc import Mapping

from lhc_ref.arrays import Array, namespace
from lhc_ref.errors import ConfigError
from lhc_ref.optim import checked_weight


class Adam:
    """`m = b1*m + (1-b1)*g`, `v = b2*v + (1-b2)*g^2`, `w -= rate * m^ / (sqrt(v^) + epsilon)`.

    `m^ = m / (1 - b1^t)` and `v^ = v / (1 - b2^t)` after t steps, so that the means forget that they started at zero.

    Parameters
    ----------
    first, second : b1 and b2, in [0, 1)
    epsilon : > 0

    Attributes
    ----------
    state : "mean.NAME" and "square.NAME" -> f[...], "steps.NAME" -> i64[]
        Made when a weight is first updated; owned by the optimizer, and all that it keeps.

    Raises
    ------
    ConfigError : a parameter out of range.

    Notes
    -----
    Source: Kingma, Ba, *Adam*, ICLR 2015 (arXiv 1412.6980), algorithm 1 with its constants.
    """

    def __init__(self, first: float = 0.9, second: float = 0.999, epsilon: float = 1e-8) -> None:
        if not (0.0 <= first < 1.0 and 0.0 <= second < 1.0):
            raise ConfigError(f"first, second: expected numbers in [0, 1), got {first}, {second}. Usual: 0.9, 0.999.")
        if not epsilon > 0.0:
            raise ConfigError(f"epsilon: expected a number > 0, got {epsilon}. Usual: 1e-8.")
        self.first, self.second, self.epsilon = first, second, epsilon
        self.state: dict[str, Array] = {}

    def update(self, weights: Mapping[str, Array], gradients: Mapping[str, Array], rate: float) -> None:
        """Change the weights in place by one step; arguments and errors as for `SGD.update`."""
        for name, gradient in gradients.items():
            weight = checked_weight(weights, name, gradient)
            if f"mean.{name}" not in self.state:
                xp = namespace(weight)
                self.state |= {f"mean.{name}": xp.zeros_like(weight), f"square.{name}": xp.zeros_like(weight)}
                self.state[f"steps.{name}"] = xp.zeros((), dtype="int64")
            mean, square, steps = (self.state[f"{part}.{name}"] for part in ("mean", "square", "steps"))
            steps += 1
            mean *= self.first
            mean += (1 - self.first) * gradient
            square *= self.second
            square += (1 - self.second) * gradient**2
            t = int(steps)
            deviation = namespace(weight).sqrt(square / (1 - self.second**t)) + self.epsilon
            weight -= rate * (mean / (1 - self.first**t)) / deviation
