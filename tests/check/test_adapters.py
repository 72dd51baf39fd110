"""What a target's signature is offered, framework or not."""

import pytest

from lhc_ref.check.adapters import Adapter, Declaration
from lhc_ref.check.adapters.base import constructor_settings
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


@pytest.mark.parametrize(
    ("case", "declared", "words"),
    [
        (Case(sy=2, sx=2), {}, "takes numbers as 'padding', the same on both sides: 'same' needs others"),
        (Case(kh=5), {"square": True}, r"takes one number as 'kernel_size': \(5, 3\) cannot be asked for"),
        (Case(gi=2), {}, "takes no argument 'group_in': group_in=2 cannot be asked for"),
        (Case(ry=2), {}, r"takes no argument 'dilation': dilation=\(2, 1\) cannot be asked for"),
    ],
)
def test_what_cannot_be_asked_for(case, declared, words):
    with pytest.raises(UnsupportedError, match=words):
        given(numbers, case, **declared)


def test_a_bias_that_cannot_be_left_out():
    with pytest.raises(UnsupportedError, match="takes no argument 'bias': bias=False cannot be asked for"):
        given(fixed, Case(bias=0), names={"c_in": "cin", "c_out": "cout"})


def test_names_of_the_users_own():
    assert given(fixed, names={"c_in": "cin", "c_out": "cout"}) == {"cin": 2, "cout": 3}
    with pytest.raises(UnsupportedError, match="wants cin, cout, which a case does not have; declare it with --names"):
        given(fixed)


def test_the_pads_of_a_case_in_numbers():
    assert Case(kh=2, kw=2).geometry["pads"] == ((0, 1), (0, 1))
    assert Case(padding="1.0.2.1").geometry["pads"] == ((1, 0), (2, 1))
