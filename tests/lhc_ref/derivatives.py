"""One check of a derivative for every operator, and the proof that the check can fail."""

from lhc_ref.gradcheck import check_vjp, compare_vjp, tape_vjp

MODES = ("projection", "jacobian", "taylor")
PLANTED = 1e-4


def assert_derivatives(f, vjp, args, **how):
    """All modes agree that `vjp` is the derivative of `f`; each finds every cotangent wrong when it is 1e-4 too large.

    A single projection may not: the directional derivative that it looks at can happen to be small.
    """

    def planted(dy, *args, **options):
        return tuple(None if d is None else d * (1 + PLANTED) for d in vjp(dy, *args, **options))

    for mode in MODES:
        check_vjp(f, vjp, args, mode=mode, **how)
        rows = compare_vjp(f, planted, args, mode=mode, **how).rows
        found = {row.name for row in rows if row.verdict == "wrong"}
        assert found == {row.name for row in rows}, (mode, found)


def assert_tape_derivatives(f, args, **how):
    """The same for a function written with `apply`: what the tape makes of it."""
    assert_derivatives(f, tape_vjp(f), args, **how)
