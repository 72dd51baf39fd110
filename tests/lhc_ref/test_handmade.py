"""The unification claim, executed: each hand-made convolution is the full one with its mask, and so are its gradients.

Numbers are small integers and everything is exact. The direct implementations are the definition's loops.
"""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhc_ref import handmade
from lhc_ref.conv import conv2d, conv2d_vjp
from lhc_ref.errors import InputError
from lhc_ref.layers import LhcConv2d, Pass
from lhc_ref.mask import PATTERNS, lhc_mask
from tests import oracle
from tests.strategies import numbers, pairs, seeds
from tests.tolerances import assert_exact

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
small_pads = st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2)
odd = st.sampled_from([1, 3, 5])


def case(kind, draw):
    """Options of the mask and of the direct convolution, and the taps above and left of its window in the mask's."""
    groups = draw(st.integers(1, 3))
    c_in, c_out = (groups * draw(st.integers(1, 3)) for _ in range(2))
    size = draw(odd), draw(odd)
    ky, kx = size[0] // 2, size[1] // 2
    plain = {"size": size, "c_in": c_in, "c_out": c_out}
    if kind == "grouped":
        return plain | {"groups": groups}, {"groups": groups}, (0, 0)
    if kind == "depthwise":
        return plain | {"c_in": groups, "c_out": groups * c_out}, {"groups": groups}, (0, 0)
    if kind == "dilated":
        dilation = draw(pairs)
        return plain | {"dilation": dilation}, {"dilation": dilation}, (0, 0)
    around = {"pointwise": (ky, kx), "horizontal": (ky, 0), "vertical": (0, kx)}
    return plain, {}, around.get(kind, (0, 0))


def compact(full, kind, options):
    """What the direct convolution keeps of a full kernel."""
    kh, kw, c_in, c_out = full.shape
    if kind in ("grouped", "depthwise"):
        slices = oracle.group_slices(c_in, c_out, options["groups"])
        return np.concatenate([full[:, :, ci, co] for ci, co in slices], axis=3)
    rows = slice(kh // 2, kh // 2 + 1) if kind in ("pointwise", "horizontal") else slice(None)
    columns = slice(kw // 2, kw // 2 + 1) if kind in ("pointwise", "vertical") else slice(None)
    dy, dx = options.get("dilation", (1, 1))
    return full[rows, columns][::dy, ::dx]


@dtypes
@pytest.mark.parametrize("kind", [k for k in handmade.KINDS if k != "hetconv"])
@given(st.data(), pairs, small_pads, seeds)
def test_each_kind_is_its_mask_on_the_full_convolution(dtype, kind, data, stride, pads, seed):
    mask_options, options, (ay, ax) = case(kind, data.draw)
    mask = handmade.KINDS[kind](**mask_options)
    kh, kw, c_in, _ = mask.shape
    around = tuple((before + a, after + a) for (before, after), a in zip(pads, (ay, ax), strict=True))
    size_hw = tuple(k + data.draw(st.integers(0, 3)) for k in (kh, kw))
    x = numbers(seed, "x", (2, *size_hw, c_in), dtype)
    full = numbers(seed, "kernel", mask.shape, dtype)

    direct = compact(full, kind, options)
    y = conv2d(x, full * mask, stride=stride, padding=around)
    assert_exact(y, oracle.conv2d(x, direct, stride=stride, padding=pads, **options), dtype)
    assert_exact(y, conv2d(x, direct, stride=stride, padding=pads, **options))

    dy = numbers(seed, "dy", y.shape, dtype)
    dx, dfull = conv2d_vjp(dy, x, full * mask, stride=stride, padding=around)
    dx_direct, ddirect = oracle.conv2d_vjp(dy, x, direct, stride=stride, padding=pads, **options)
    assert_exact(dx, dx_direct, dtype)
    assert_exact(compact(dfull * mask, kind, options), ddirect, dtype)
    assert mask.sum() == direct.size  # nothing but what the direct convolution has


@dtypes
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 7), st.sampled_from([(1, 1), (3, 3), (3, 5)]), seeds)
def test_hetconv_is_a_large_and_a_pointwise_convolution_an_output_channel(dtype, p, parts, c_out, size, seed):
    c_in = p * parts
    mask = handmade.hetconv(size, c_in, c_out, p=p)
    x, full = numbers(seed, "x", (2, 4, 5, c_in), dtype), numbers(seed, "kernel", mask.shape, dtype)
    y = conv2d(x, full * mask)
    for co in range(c_out):
        whole = [ci for ci in range(c_in) if (ci - co) % p == 0]
        rest = [ci for ci in range(c_in) if ci not in whole]
        assert len(whole) == parts
        centre_tap = full[size[0] // 2, size[1] // 2][None, None]
        want = oracle.conv2d(x[..., whole], full[:, :, whole, co : co + 1])
        want += oracle.conv2d(x[..., rest], centre_tap[:, :, rest, co : co + 1])
        assert_exact(y[..., co : co + 1], want, dtype)


def test_hetconv_shifts_by_one_input_channel_per_output_channel():
    whole = handmade.hetconv(3, 8, 8, p=4)[0, 0]
    assert [ci for ci in range(8) if whole[ci, 0]] == [0, 4]
    for co in range(7):
        assert_exact(np.roll(whole[:, co], 1), whole[:, co + 1])


@pytest.mark.parametrize(("p", "density"), [(1, "1"), (2, "5/9"), (4, "1/3"), (8, "2/9")])
def test_hetconv_densities(p, density):
    mask = handmade.hetconv(3, 16, 24, p=p)
    assert Fraction(int(mask.sum()), mask.size) == Fraction(density)


@pytest.mark.parametrize("kind", handmade.KINDS)
def test_an_lhc_layer_can_learn_each_kind(kind):
    """Free scores make the very mask, and the layer with them is the hand-made convolution."""
    options = {"grouped": {"groups": 2}, "dilated": {"dilation": 2}, "hetconv": {"p": 2}}.get(kind, {})
    mask = handmade.KINDS[kind](3, 4, 8, **options)
    kh, kw, c_in, c_out = mask.shape
    scores = handmade.free_scores(mask, "float64")
    made = lhc_mask(scores, np.ones(c_out, bool), kind="free", c_in=c_in, c_out=c_out)
    assert_exact(made, mask.astype(float))
    layer = LhcConv2d("layer", c_in, c_out, np.random.default_rng(0), size=(kh, kw), dtype="float64")
    layer.weights |= {"scores": scores, "kernel": numbers(0, "kernel", mask.shape, np.float64)}
    x = numbers(1, "x", (1, 6, 7, c_in), np.float64)
    assert_exact(layer(x, Pass()), oracle.conv2d(x, layer.weights["kernel"] * mask))


@pytest.mark.parametrize(("kind", "number"), [("pointwise", 1), ("horizontal", 2), ("vertical", 4), ("standard", 14)])
def test_rigid_patterns_hold_the_kinds_of_one_picture(kind, number):
    mask = handmade.KINDS[kind](3, 2, 3)
    assert_exact(mask, np.broadcast_to(PATTERNS[number][:, :, None, None], mask.shape))


def test_rigid_patterns_make_hetconv():
    scores = np.zeros((15, 8, 8))
    scores[1] = 1
    scores[14] = 2 * handmade.hetconv(3, 8, 8, p=4)[0, 0]  # its corner tap: all taps, or the centre alone
    made = lhc_mask(scores, np.ones(8, bool), kind="rigid", c_in=8, c_out=8)
    assert_exact(made, handmade.hetconv(3, 8, 8, p=4).astype(float))


@pytest.mark.parametrize(
    ("thing", "call"),
    [
        ("size", lambda: handmade.standard(0, 1, 1)),
        ("c_in", lambda: handmade.standard(3, 0, 1)),
        ("groups", lambda: handmade.grouped(3, 4, 6, groups=4)),
        ("groups", lambda: handmade.grouped(3, 4, 6, groups=0)),
        ("groups", lambda: handmade.depthwise(3, 4, 6)),
        ("size", lambda: handmade.pointwise((3, 2), 1, 1)),
        ("dilation", lambda: handmade.dilated(3, 1, 1, dilation=0)),
        ("p", lambda: handmade.hetconv(3, 6, 2, p=4)),
        ("size", lambda: handmade.hetconv(4, 4, 2, p=2)),
    ],
)
def test_wrong_input_is_named(thing, call):
    with pytest.raises(InputError, match=r": expected .+, got .+\. .+\.$") as caught:
        call()
    assert str(caught.value).startswith(f"{thing}: ")
