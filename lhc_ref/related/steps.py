"""Residual steps read as steps of a differential equation: parabolic, diffusion-reaction, and implicit-explicit (IMEX).

They are written with `apply`: with plain arrays they compute, with Variables the tape differentiates them. `weights`
stand for K, a 3x3 convolution ("same", stride 1) in one of three forms:

- "full": a kernel f[3, 3, c, m];
- "depthwise": a kernel f[3, 3, 1, c], one stencil a channel;
- "circulant": theta f[3, 3, p, q, b] of `circulant_kernel`, a single block or several.

`normalize` is N, a function such as a BatchNorm layer bound to its pass, or None; `activation` is an operator of one
array, or None for the identity.

Sources: parabolic and IMEX step from the code beside Treister et al. (arXiv 1805.07821) and Haber et al. (arXiv
1903.02639); the diffusion-reaction step from an abstract only. Hypothesis: that its three operators are these three.
"""

from collections.abc import Callable
from typing import Any

from lhc_ref import ops
from lhc_ref.arrays import Array
from lhc_ref.conv import conv2d
from lhc_ref.conv_transpose import conv2d_transpose
from lhc_ref.errors import InputError
from lhc_ref.related.circulant import circulant_kernel, circulant_shape
from lhc_ref.related.implicit import check_step, implicit_diffusion
from lhc_ref.tape import apply

Value = Any  # an array, or a Variable
Normalize = Callable[[Value], Value] | None
Activation = Callable[..., Array] | None

OPERATORS = ("full", "depthwise", "circulant")


def step_shapes(c: int, *, operator: str, block: int | None = None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of `weights` and `reaction` for c channels; a circulant has blocks of `block`, by default one of all c.

    Counts: full `9c^2 + c^2`, depthwise `9c + c^2`, circulant `9c^2/block + c^2`.
    """
    _check_operator(operator)
    shapes = {"full": (3, 3, c, c), "depthwise": (3, 3, 1, c), "circulant": circulant_shape(3, c, c, block=block or c)}
    return shapes[operator], (1, 1, c, c)


def parabolic_step(
    y: Value,
    weights: Value,
    *,
    h: float,
    operator: str = "full",
    activation: Activation = ops.relu,
    normalize: Normalize = None,
) -> Value:
    """One explicit step of diffusion: `y - h * K^T act(N(K y))`, with the transpose of the same K.

    With 0 <= act' <= 1 and N the identity it is non-expansive, `|step(a) - step(b)| <= |a - b|`, if
    `h * |K|^2 <= 2` in the spectral norm. Where act' = 1 can hold everywhere at once (the identity), only then.

    Parameters
    ----------
    y : f[n, h, w, c]
    weights : of K, see the module
    h : length of the step, > 0
    operator : "full" | "depthwise" | "circulant"

    Returns
    -------
    f[n, h, w, c]. Cost: twice the convolution.

    Raises
    ------
    InputError : an unknown operator, h not positive, wrong dtypes or shapes.

    Notes
    -----
    Source: the code beside arXiv 1805.07821; the limit of h is derived.
    """
    check_step(h)
    diffused = _spread_back(y, weights, operator, activation, normalize)
    return _explicit(y, (diffused, -h))


def diffusion_reaction_step(
    y: Value,
    weights: Value,
    reaction: Value,
    *,
    h: float,
    operator: str = "depthwise",
    activation: Activation = ops.relu,
    normalize: Normalize = None,
    normalize_reaction: Normalize = None,
) -> Value:
    """Diffusion within cheap channels, reaction across all: `y + h * (-K^T act(N(K y)) + act(N(R y)))`.

    That `operator` is one of these three is a hypothesis, see the module.

    Parameters
    ----------
    y, weights, h, operator, activation, normalize : as for `parabolic_step`
    reaction : f[1, 1, c, c], R
    normalize_reaction : the second N, with parameters of its own

    Returns
    -------
    f[n, h, w, c]. Cost: twice the diffusion's convolution and a 1x1: depthwise 9c + c^2 weights against 9c^2.

    Notes
    -----
    Source: an abstract; see the module.
    """
    check_step(h)
    diffused = _spread_back(y, weights, operator, activation, normalize)
    reacted = _activate(apply(conv2d, y, reaction), activation, normalize_reaction)
    return _explicit(y, (diffused, -h), (reacted, h))


def imex_step(
    x: Value,
    weights: Value,
    stencil: Value,
    *,
    h: float,
    operator: str = "full",
    normalize: Normalize = None,
    normalize_implicit: Normalize = None,
) -> Value:
    """An explicit step, then an implicit one: `v = x + h * K^T relu(N(K x))`, then `implicit_diffusion(N(v), stencil)`.

    The implicit part lets every pixel see every other in one step, and only ever shrinks.

    Parameters
    ----------
    x, weights, h, operator, normalize : as y, ... for `parabolic_step`
    stencil : f[3, 3, 1, c]
    normalize_implicit : the second N, with parameters of its own

    Returns
    -------
    f[n, h, w, c]. Cost: twice the convolution, and two transforms of the image.

    Notes
    -----
    Source: Haber et al., arXiv 1903.02639, and its code.
    """
    check_step(h)
    v = _explicit(x, (_spread_back(x, weights, operator, ops.relu, normalize), h))
    return apply(implicit_diffusion, v if normalize_implicit is None else normalize_implicit(v), stencil, h=h)


def _spread_back(y: Value, weights: Value, operator: str, activation: Activation, normalize: Normalize) -> Value:
    """`K^T act(N(K y))`."""
    _check_operator(operator)
    kernel = apply(circulant_kernel, weights) if operator == "circulant" else weights
    groups = y.shape[3] if operator == "depthwise" else 1
    z = _activate(apply(conv2d, y, kernel, groups=groups), activation, normalize)
    return apply(conv2d_transpose, z, kernel, groups=groups)


def _activate(z: Value, activation: Activation, normalize: Normalize) -> Value:
    z = z if normalize is None else normalize(z)
    return z if activation is None else apply(activation, z)


def _explicit(y: Value, *terms: tuple[Value, float]) -> Value:
    """y plus each term times its factor."""
    for term, factor in terms:
        y = apply(ops.add, y, apply(ops.scale, term, factor=factor))
    return y


def _check_operator(operator: str) -> None:
    if operator not in OPERATORS:
        raise InputError(f"operator: expected one of {', '.join(OPERATORS)}, got {operator!r}. Use one of these.")
