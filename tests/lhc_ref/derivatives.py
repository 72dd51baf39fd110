"""One check of a derivative for every operator, and the proof that the check can fail."""

import numpy as np

from lhc_ref.gradcheck import check_vjp, compare_vjp, tape_vjp
from tests.tolerances import assert_exact

MODES = ("projection", "jacobian", "taylor")
PLANTED = 1e-4


def assert_derivatives(f, vjp, args, **how):
    """All modes agree that `vjp` is the derivative of `f`; each finds every cotangent wrong when it is 1e-4 too large.

    A single projection may not: the directional derivative that it looks at can happen to be small. That the modes
    agree shows linearity in the cotangent too, for one takes basis vectors and the others sums of them; factors that
    are powers of two come out exactly.
    """

    def planted(dy, *args, **options):
        return tuple(None if d is None else d * (1 + PLANTED) for d in vjp(dy, *args, **options))

    options = how.get("options", {})
    dy = np.random.default_rng(0).standard_normal(np.shape(f(*args, **options)))
    for once, minus_twice in zip(vjp(dy, *args, **options), vjp(-2 * dy, *args, **options), strict=True):
        if once is not None:
            assert_exact(minus_twice, -2 * once)
    for mode in MODES:
        check_vjp(f, vjp, args, mode=mode, **how)
        rows = compare_vjp(f, planted, args, mode=mode, **how).rows
        found = {row.name for row in rows if row.verdict == "wrong"}
        assert found == {row.name for row in rows}, (mode, found)


def assert_tape_derivatives(f, args, **how):
    """The same for a function written with `apply`: what the tape makes of it."""
    assert_derivatives(f, tape_vjp(f), args, **how)
