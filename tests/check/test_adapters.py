"""What a target's signature is offered, framework or not."""

import pytest

from lhc_ref.check.adapters import Adapter, Declaration
from lhc_ref.check.adapters.base import check_shape, constructor_settings
from lhc_ref.check.cases import Case
from lhc_ref.check.protocol import UnsupportedError


def given(function, case=Case(), **declared):  # noqa: B008 - frozen
    adapter = Adapter(function, Declaration(**declared))
    return adapter.arguments(function, constructor_settings(case.geometry, case.arrays))


def tuples(in_channels, out_channels, kernel_size, stride=(1, 1), padding="same", bias=True):
    pass


def numbers(in_channels, out_channels, kernel_size, stride=1, padding=0, bias=True):
    pass


def fixed(cin, cout):
    pass


def test_tuples_by_the_usual_names():
    assert given(tuples, Case(sy=2, sx=2)) == {
        "in_channels": 2, "out_channels": 3, "kernel_size": (3, 3), "stride": (2, 2), "padding": "same", "bias": True,
    }  # fmt: skip


def test_one_number_where_the_defaults_are_numbers():
    assert given(numbers, Case(sy=2, sx=2, h=5, w=5)) == {
        "in_channels": 2, "out_channels": 3, "kernel_size": 3, "stride": 2, "padding": 1, "bias": True,
    }  # fmt: skip
    assert given(numbers, Case(kh=5))["kernel_size"] == (5, 3)
    assert given(numbers, Case(kh=5))["padding"] == (2, 1)
    assert given(numbers, Case(padding="valid"))["padding"] == 0
    assert given(tuples, square=True)["kernel_size"] == 3
    assert given(tuples, square=True)["padding"] == "same"


@pytest.mark.parametrize(
    ("case", "declared", "words"),
    [
        (Case(sy=2, sx=2), {}, "takes numbers as 'padding', the same on both sides"),
        (Case(kh=5), {"square": True}, "takes one number as 'kernel_size'"),
        (Case(gi=2), {}, "takes no argument 'group_in'"),
        (Case(ry=2), {}, "takes no argument 'dilation'"),
    ],
)
def test_what_cannot_be_asked_for(case, declared, words):
    with pytest.raises(UnsupportedError, match=words):
        given(numbers, case, **declared)


def test_a_bias_that_cannot_be_left_out():
    with pytest.raises(UnsupportedError, match="takes no argument 'bias'"):
        given(fixed, Case(bias=0), names={"c_in": "cin", "c_out": "cout"})


def test_names_of_the_users_own():
    assert given(fixed, names={"c_in": "cin", "c_out": "cout"}) == {"cin": 2, "cout": 3}
    with pytest.raises(UnsupportedError, match=r"wants cin, cout, which no setting is called; .* --names c_in=cin"):
        given(fixed)


# --- What a layer turns out to take -----------------------------------------------------------------------------------


class SquareKernels:
    """One number as kernel_size, whatever else."""

    def __init__(self, c_in, c_out, kernel_size, stride=1, bias=True):
        self.padding, self.stride = kernel_size // 2, stride


class PairsOfTaps:
    """A pair as kernel_size, one number as stride."""

    def __init__(self, c_in, c_out, kernel_size, stride=1, bias=True):
        self.taps, self.stride = [*kernel_size], stride + 0


class Words:
    def __init__(self, c_in, c_out, kernel_size=(3, 3), padding="same", bias=True):
        self.padding = padding.upper() if padding in ("same", "valid") else int(str(padding))


class Wrong:
    def __init__(self, c_in, c_out, kernel_size, bias=True):
        if kernel_size[0] != kernel_size[1]:
            raise TypeError("no such operator")


def constructed(layer, case, adapter=None):
    adapter = adapter or Adapter(layer, Declaration())
    settings = constructor_settings(case.geometry, case.arrays)
    return vars(adapter.constructed(settings, lambda made: made, lambda made: None))


def test_a_layer_of_square_kernels_is_not_asked_for_others():
    assert constructed(SquareKernels, Case(kh=5, kw=5, h=6)) == {"padding": 2, "stride": 1}
    assert constructed(SquareKernels, Case(sy=2, h=5)) == {"padding": 1, "stride": (2, 1)}
    with pytest.raises(UnsupportedError, match="takes one number as 'kernel_size'"):
        constructed(SquareKernels, Case(kh=5, h=6))


def test_what_a_layer_takes_is_kept():
    adapter = Adapter(SquareKernels, Declaration())
    with pytest.raises(UnsupportedError):
        constructed(SquareKernels, Case(kh=5, h=6), adapter)
    assert constructed(SquareKernels, Case(sy=2, h=5), adapter) == {"padding": 1, "stride": (2, 1)}
    assert adapter.forms["kernel_size"] == {"number"}
    assert adapter.forms["stride"] == {"number", "pair"}


def test_a_layer_that_takes_a_pair_of_one_and_a_number_of_the_other():
    assert constructed(PairsOfTaps, Case(kh=5, h=6, sy=2, sx=2)) == {"taps": [5, 3], "stride": 2}
    with pytest.raises(UnsupportedError, match="takes one number as 'stride'"):
        constructed(PairsOfTaps, Case(sy=2, h=5))


def test_words_as_padding():
    assert constructed(Words, Case(padding="valid")) == {"padding": "VALID"}
    with pytest.raises(UnsupportedError, match=r"takes words as 'padding' \(pixels raise ValueError: "):
        constructed(Words, Case(padding="1.0.2.1"))


def test_another_error_of_type_passes():
    assert constructed(Wrong, Case()) == {}
    with pytest.raises(TypeError, match="no such operator"):
        constructed(Wrong, Case(kh=5, h=6))


def test_an_array_of_another_shape():
    check_shape("scores", "effects", (2, 1, 3, 3), (2, 1, 3, 3))
    words = (
        r"effects: expected the shape \(2, 1, 3, 3\) as declared \(a pattern for each group, .*\), got \(1, 1, 3, 3\)"
    )
    with pytest.raises(ValueError, match=words):
        check_shape("scores", "effects", (2, 1, 3, 3), (1, 1, 3, 3))


def test_the_pads_of_a_case_in_numbers():
    assert Case(kh=2, kw=2).geometry["pads"] == ((0, 1), (0, 1))
    assert Case(padding="1.0.2.1").geometry["pads"] == ((1, 0), (2, 1))
