"""Stochastic gradient descent with Nesterov momentum."""

from collections.abc import Mapping

from lhc_ref.arrays import Array, check_like, namespace
from lhc_ref.errors import ConfigError, InputError


class SGD:
    """`v = momentum * v - rate * g`, then `w += momentum * v - rate * g`: Keras's form, with the rate inside `v`.

    Parameters
    ----------
    momentum : in [0, 1)

    Attributes
    ----------
    velocity : name -> f[...]
        Made (zero) when a parameter is first updated; owned by the optimizer, and all the state it has.

    Raises
    ------
    ConfigError : momentum out of range.

    Notes
    -----
    Source: the recipe of LHC (arXiv 2301.05440), which trains with `tf.keras.optimizers.SGD(nesterov=True)`.
    """

    def __init__(self, momentum: float = 0.9) -> None:
        if not 0.0 <= momentum < 1.0:
            raise ConfigError(f"momentum: expected a number in [0, 1), got {momentum}. The authors use 0.9.")
        self.momentum = momentum
        self.velocity: dict[str, Array] = {}

    def update(self, weights: Mapping[str, Array], gradients: Mapping[str, Array], rate: float) -> None:
        """Change the weights in place by one step.

        Parameters
        ----------
        weights : name -> f[...], changed in place.
        gradients : name -> f[...]
            Shape and dtype of the weight. A weight without a gradient stays, and so does its velocity.
        rate : learning rate

        Raises
        ------
        InputError : a gradient for a weight that is not there, or of another shape or dtype.
        """
        for name, gradient in gradients.items():
            weight = checked_weight(weights, name, gradient)
            if name not in self.velocity:
                self.velocity[name] = namespace(weight).zeros_like(weight)
            velocity, step = self.velocity[name], rate * gradient
            velocity *= self.momentum
            velocity -= step
            weight += self.momentum * velocity - step


def checked_weight(weights: Mapping[str, Array], name: str, gradient: Array) -> Array:
    """The weight that a gradient belongs to; InputError where there is none, or of another shape or dtype."""
    if name not in weights:
        raise InputError(f"gradient: expected the name of a weight, got {name!r}. Pass the weights it belongs to.")
    check_like(gradient, f"gradient of {name}", weights[name].shape, weights[name], "its weight")
    return weights[name]
