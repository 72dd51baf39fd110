"""What can be had from the package itself, and that none of it is loaded before it is asked for."""

import importlib
import subprocess
import sys

import pytest

import lhc_ref


def test_each_name_is_that_of_its_module():
    assert {"Tape", "apply", "conv2d", "LhcConv2d", "make_net"} <= set(lhc_ref.__all__) <= set(dir(lhc_ref))
    for home, names in lhc_ref._HOMES.items():
        for name in names.split():
            assert getattr(lhc_ref, name) is getattr(importlib.import_module(f"lhc_ref.{home}"), name)


def test_other_names_are_an_error():
    with pytest.raises(AttributeError, match="module 'lhc_ref' has no attribute 'Tap'"):
        lhc_ref.Tap  # noqa: B018


def test_the_model_file_loads_no_operator():
    code = "import sys, lhc_ref.modelfile; sys.exit('lhc_ref.tape' in sys.modules or 'lhc_ref.conv' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
