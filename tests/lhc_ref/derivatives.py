"""One check of a derivative for every operator, and the proof that the check can fail."""

import numpy as np

from lhc_ref.gradcheck import check_vjp, compare_vjp, tape_vjp
from tests.tolerances import assert_exact

MODES = ("projection", "jacobian", "taylor")
PLANTED = 1e-4


def assert_derivatives(f, vjp, args, **how):
    """All modes agree that `vjp` is the derivative of `f`; each finds every cotangent wrong when it is 1e-4 too large.

    A single projection may not: the directional derivative that it looks at can happen to be small. The cotangents are
    linear in `dy` too.
    """

    def planted(dy, *args, **options):
        return tuple(None if d is None else d * (1 + PLANTED) for d in vjp(dy, *args, **options))

    options = how.get("options", {})
    assert_linear(vjp, np.shape(f(*args, **options)), args, options)
    for mode in MODES:
        check_vjp(f, vjp, args, mode=mode, **how)
        rows = compare_vjp(f, planted, args, mode=mode, **how).rows
        found = {row.name for row in rows if row.verdict == "wrong"}
        assert found == {row.name for row in rows}, (mode, found)


def assert_linear(vjp, shape, args, options):
    """Each cotangent is linear in `dy`, of this shape: a factor comes out, and it is the sum of those of basis vectors.

    The factor is a power of two, so that is exact. The sum is a derivative of `vjp` by `dy`, so it is checked as one,
    within a budget that is derived.
    """
    dy = np.random.default_rng(0).standard_normal(shape)
    basis = np.eye(dy.size).reshape(-1, *shape)
    for i, (once, minus_twice) in enumerate(
        zip(vjp(dy, *args, **options), vjp(-2 * dy, *args, **options), strict=True)
    ):
        if once is None:
            continue
        assert_exact(minus_twice, -2 * once)

        def cotangent(dy, i=i):
            return vjp(dy, *args, **options)[i]

        of_basis = np.stack([cotangent(one) for one in basis])

        def transpose(w, dy, of_basis=of_basis):
            return (np.tensordot(of_basis, w, w.ndim).reshape(dy.shape),)

        check_vjp(cotangent, transpose, [dy], projections=1)


def assert_tape_derivatives(f, args, **how):
    """The same for a function written with `apply`: what the tape makes of it."""
    assert_derivatives(f, tape_vjp(f), args, **how)
