"""A target that cannot be imported: the message names the user's own file and line, or what may have been meant."""

import re

import pytest

from lhc_ref.cli import main
from lhc_ref.errors import ConfigError

FILES = {
    "layers.py": "import numpy as np\n\n\ndef lhc_layer(arrays, geometry):\n    pass\n\n\nclass LhcConv2d:\n    pass\n",
    "package/__init__.py": "",
    "package/convs.py": "def layer(arrays, geometry):\n    pass\n",
    "lacks.py": "import numpy\nimport no_such_module\n",
    "imports_it.py": "import lacks\n",
    "deep.py": "import numpy\n\nnumpy.full((2, 2), [1, 2, 3])\n",
    "wrong_name.py": "from numpy import no_such_name\n",
    "syntax.py": "x = 1\ndef f(:\n",
}


@pytest.fixture
def refusal(tmp_path, monkeypatch):
    """The message for a target, in a folder with the files."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)

    def message(target):
        with pytest.raises(ConfigError) as raised:
            main(["check", target])
        return str(raised.value).replace(f"{tmp_path}/", "")

    return message


@pytest.mark.parametrize(
    ("target", "got"),
    [
        ("layers:LhcConv", "no 'LhcConv' in layers.py (did you mean 'LhcConv2d'?)"),
        ("layers:lhclayer", "no 'lhclayer' in layers.py (did you mean 'lhc_layer'?)"),
        ("layers:np", "TypeError: expected a class or function, got module"),
        ("layers:zzz", "no 'zzz' in layers.py"),
        ("layers:LhcConv2d.call", "no 'call' in LhcConv2d"),
        ("layerz:LhcConv2d", "no module 'layerz' (did you mean 'layers'?)"),
        ("pakage.convs:layer", "no module 'pakage' (did you mean 'package'?)"),
        ("package.conv:layer", "no module 'package.conv' (did you mean 'convs'?)"),
        ("package.convs:layers", "no 'layers' in package/convs.py (did you mean 'layer'?)"),
    ],
)
def test_a_misspelt_name(refusal, target, got):
    todo = "Mend that first" if "TypeError" in got else "Check the name and its path"
    assert refusal(target) == f"{target}: expected an importable target, got {got}. {todo}."


@pytest.mark.parametrize(
    ("module", "error", "place"),
    [
        ("lacks", "ModuleNotFoundError: No module named 'no_such_module'", "lacks.py:2"),
        ("imports_it", "ModuleNotFoundError: No module named 'no_such_module'", "lacks.py:2"),
        ("deep", "ValueError: could not broadcast", "deep.py:3"),
        ("wrong_name", "ImportError: cannot import name 'no_such_name' from 'numpy'", "wrong_name.py:1"),
        ("syntax", "SyntaxError: invalid syntax", "syntax.py:2"),
    ],
)
def test_an_error_in_the_users_module(refusal, module, error, place):
    expected = (
        rf"{module}:layer: expected an importable target, got {re.escape(error)}.* \({place}\)\. Mend that first\."
    )
    assert re.fullmatch(expected, refusal(f"{module}:layer"))
