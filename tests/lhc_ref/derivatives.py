"""One check of a derivative for every operator, and the proof that the check can fail."""

from lhc_ref.gradcheck import check_vjp, compare_vjp, tape_vjp

MODES = ("projection", "jacobian", "taylor")
PLANTED = 1e-4


def assert_derivatives(f, vjp, args, **how):
    """All modes agree that `vjp` is the derivative of `f`, and all call it wrong when it is 1e-4 too large."""

    def planted(dy, *args, **options):
        return tuple(None if d is None else d * (1 + PLANTED) for d in vjp(dy, *args, **options))

    for mode in MODES:
        check_vjp(f, vjp, args, mode=mode, **how)
        verdicts = {row.verdict for row in compare_vjp(f, planted, args, mode=mode, **how).rows}
        assert verdicts == {"wrong"}, (mode, verdicts)


def assert_tape_derivatives(f, args, **how):
    """The same for a function written with `apply`: what the tape makes of it."""
    assert_derivatives(f, tape_vjp(f), args, **how)
