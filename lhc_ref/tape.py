"""Reverse-mode differentiation: a tape of what was computed, and a table from each operator to its derivative.

    tape = Tape()
    kernel = tape.variable(array)
    y = apply(conv2d, images, kernel, stride=(2, 2))
    loss = apply(softmax_cross_entropy, apply(global_average_pool, y), labels)
    (dkernel,) = tape.gradients(loss, [kernel])

With plain arrays alone `apply` just calls the operator, so the same code trains and predicts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lhc_ref import conv, conv_transpose, mask, ops
from lhc_ref.arrays import Array, check_float, check_like, describe, namespace
from lhc_ref.errors import InputError

Vjp = Callable[..., tuple[Array | None, ...]]
PerArgument = tuple[Callable[..., Array], ...]  # one function a cotangent, so that unneeded ones cost nothing

VJPS: dict[Callable[..., Array], Vjp | PerArgument] = {
    ops.relu: ops.relu_vjp,
    ops.add: ops.add_vjp,
    ops.multiply: ops.multiply_vjp,
    ops.scale: ops.scale_vjp,
    ops.bias_add: ops.bias_add_vjp,
    ops.dense: ops.dense_vjp,
    ops.prelu: ops.prelu_vjp,
    ops.clipped_relu: ops.clipped_relu_vjp,
    ops.sigmoid: ops.sigmoid_vjp,
    ops.dropout: ops.dropout_vjp,
    ops.flatten: ops.flatten_vjp,
    ops.reshape: ops.reshape_vjp,
    ops.concat: ops.concat_vjp,
    ops.pad: ops.pad_vjp,
    ops.max_pool: ops.max_pool_vjp,
    ops.average_pool: ops.average_pool_vjp,
    ops.global_average_pool: ops.global_average_pool_vjp,
    ops.batch_norm: ops.batch_norm_vjp,
    ops.batch_norm_inference: ops.batch_norm_inference_vjp,
    ops.softmax: ops.softmax_vjp,
    ops.softmax_cross_entropy: ops.softmax_cross_entropy_vjp,
    conv.conv2d: (conv.conv2d_dx, conv.conv2d_dkernel),
    conv_transpose.conv2d_transpose: conv_transpose.conv2d_transpose_vjp,
    mask.step: mask.step_vjp,
    mask.rigid_one_hot: mask.rigid_one_hot_vjp,
    mask.combine_patterns: mask.combine_patterns_vjp,
    mask.expand_groups: mask.expand_groups_vjp,
    mask.free_mask: mask.free_mask_vjp,
    mask.rigid_mask: mask.rigid_mask_vjp,
    mask.apply_enabled: mask.apply_enabled_vjp,
    mask.lhc_mask: mask.lhc_mask_vjp,
}


def define_vjp(primal: Callable[..., Array], vjp: Vjp | PerArgument) -> None:
    """Add an operator to the table.

    Parameters
    ----------
    primal : takes arrays by position and constants by keyword, returns one array.
    vjp : `vjp(dy, *arrays, **constants)` -> a cotangent per array (None: no derivative), or a tuple of functions of the
        same arguments, one a cotangent.

    Raises
    ------
    InputError : the operator has a derivative already.
    """
    if primal in VJPS:
        raise InputError(f"{primal.__name__}: expected a new operator, got one in the table. Define it once.")
    VJPS[primal] = vjp


class Variable:
    """A value on a tape: `value`, with `shape` and `dtype`. Made by `Tape.variable` and `apply`."""

    __slots__ = ("index", "tape", "value")

    def __init__(self, tape: "Tape", index: int, value: Array) -> None:
        self.tape, self.index, self.value = tape, index, value

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape)

    @property
    def dtype(self) -> Any:
        return self.value.dtype


@dataclass(frozen=True)
class _Step:
    """One application: it holds arrays and indices, no Variable, so that a dropped tape is freed at once."""

    primal: Callable[..., Array]
    values: tuple[Any, ...]
    sources: tuple[int | None, ...]  # index of the variable that each value came from
    options: dict[str, Any]
    result: int

    def cotangents(self, dresult: Array, needed: set[int]) -> list[tuple[int, Array]]:
        """(index, cotangent) for each needed argument that has a derivative, in order."""
        vjp = VJPS[self.primal]
        wanted = [i for i, source in enumerate(self.sources) if source in needed]
        if isinstance(vjp, tuple):
            found = {i: vjp[i](dresult, *self.values, **self.options) for i in wanted}
        else:
            found = dict(enumerate(vjp(dresult, *self.values, **self.options)))
        pairs = []
        for i in wanted:
            source, cotangent, value = self.sources[i], found.get(i), self.values[i]
            if source is not None and cotangent is not None:
                check_like(cotangent, f"cotangent of {self.primal.__name__}", value.shape, value, "its argument")
                pairs.append((source, cotangent))
        return pairs


class Tape:
    """What was computed, in order. It keeps every operand until it is dropped; use one for one training step."""

    def __init__(self) -> None:
        self._steps: list[_Step] = []
        self._size = 0

    def variable(self, value: Array) -> Variable:
        """A float32 or float64 array to differentiate by; kept by reference."""
        check_float(value, "value")
        self._size += 1
        return Variable(self, self._size - 1, value)

    def record(self, primal: Callable[..., Array], args: tuple, options: dict[str, Any], value: Array) -> Variable:
        """Note that `value` is `primal(*args, **options)`; `apply` calls it."""
        result = self.variable(value)
        sources = tuple(a.index if isinstance(a, Variable) else None for a in args)
        self._steps.append(_Step(primal, tuple(map(_value, args)), sources, options, result.index))
        return result

    def gradients(self, y: Variable, wrt: Sequence[Variable], dy: Array | None = None) -> list[Array]:
        """Vector-Jacobian product of `y` by each of `wrt`.

        Parameters
        ----------
        y : what to differentiate; a scalar unless `dy` is given
        wrt : variables of this tape
        dy : cotangent of y, of y's shape and dtype; default 1

        Returns
        -------
        An array per variable, of its shape and dtype; zeros where `y` does not depend on it. They may share memory with
        each other and with `dy`: read them, or copy before writing.

        Raises
        ------
        InputError : variables of another tape, no `dy` for a `y` that is not a scalar, a wrong `dy`.

        Notes
        -----
        Cotangents are summed in the reverse of the recorded order: the same program gives the same bits. Only what lies
        between `wrt` and `y` is computed.
        """
        for v in (y, *wrt):
            if not isinstance(v, Variable) or v.tape is not self:
                raise InputError(f"gradients: expected variables of this tape, got {describe(v)}. Use its variables.")
        if dy is None:
            if y.shape != ():
                raise InputError(f"y: expected a scalar, got {describe(y.value)}. Give dy, or reduce it to a loss.")
            dy = namespace(y.value).ones((), dtype=y.dtype)
        check_like(dy, "dy", y.shape, y.value, "y")
        kept = {v.index for v in wrt}
        needed = self._dependents(kept)
        cotangents = {y.index: dy}
        for step in reversed(self._steps):
            if step.result not in needed or step.result not in cotangents:
                continue
            dresult = cotangents[step.result] if step.result in kept else cotangents.pop(step.result)
            for index, cotangent in step.cotangents(dresult, needed):
                cotangents[index] = cotangents[index] + cotangent if index in cotangents else cotangent
        return [cotangents[v.index] if v.index in cotangents else namespace(v.value).zeros_like(v.value) for v in wrt]

    def _dependents(self, indices: set[int]) -> set[int]:
        """The given variables' indices, and those of everything computed from them."""
        found = set(indices)
        for step in self._steps:
            if not found.isdisjoint(step.sources):
                found.add(step.result)
        return found


def _value(a: Any) -> Any:
    return a.value if isinstance(a, Variable) else a


def apply(primal: Callable[..., Array], *args: Any, **options: Any) -> Any:
    """Compute `primal(*args, **options)`, and record it if an argument is a Variable.

    Parameters
    ----------
    primal : an operator of the table
    args : its arrays, by position: arrays or Variables of one tape
    options : its constants, by keyword

    Returns
    -------
    A Variable if one of `args` is, else the operator's own result.

    Raises
    ------
    InputError : the operator has no derivative, or variables of two tapes meet.
    """
    tapes = {id(a.tape): a.tape for a in args if isinstance(a, Variable)}
    value = primal(*(_value(a) for a in args), **options)
    if not tapes:
        return value
    if primal not in VJPS:
        raise InputError(
            f"{primal.__name__}: expected an operator with a derivative, got none in the table. Use define_vjp."
        )
    if len(tapes) > 1:
        raise InputError(f"{primal.__name__}: expected variables of one tape, got {len(tapes)} tapes. Use one.")
    (tape,) = tapes.values()
    return tape.record(primal, args, options, value)
