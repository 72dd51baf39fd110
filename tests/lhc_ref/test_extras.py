"""The gate in front of optional packages: it opens when they are there, and says what to install when not."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from lhc_ref import extras
from lhc_ref.errors import LhcError, MissingExtraError

ROOT = Path(__file__).parents[2]
TOOLS = {"docs", "test", "dev"}  # extras for people who work on the package; nothing in it imports them
MINIMAL = {"demo": "sklearn", "images": "PIL", "plots": "matplotlib", "check": "hypothesis"}  # what tests install


def test_every_extra_has_its_gate_and_its_line_in_the_readme() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    table = re.findall(r"^\| `(\w+)` \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    assert sorted(table) == sorted(extras.EXTRAS)
    assert set(pyproject["project"]["optional-dependencies"]) - TOOLS == set(extras.EXTRAS)
    for extra in extras.EXTRAS:
        assert callable(getattr(extras, extra))


@pytest.mark.parametrize("extra", extras.EXTRAS)
def test_missing_extra_names_module_and_pip_line(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = extras.EXTRAS[extra][0]
    package = first.partition(".")[0]
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [NotInstalled(package), *sys.meta_path])

    with pytest.raises(MissingExtraError) as caught:
        getattr(extras, extra)()

    assert str(caught.value) == (
        f"extra '{extra}': expected the module {first}, got 'No module named '{package}''. "
        f"Install it: pip install 'lhc[{extra}]'"
    )
    assert isinstance(caught.value, LhcError)


def test_every_module_of_an_extra_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(extras.EXTRAS, "cuda", ("json", "no_such_module"))
    with pytest.raises(MissingExtraError, match=r"expected the module no_such_module, .* pip install 'lhc\[cuda\]'"):
        extras.cuda()


@pytest.mark.parametrize(("extra", "package"), MINIMAL.items())
def test_present_extra_hands_out_its_module(extra: str, package: str) -> None:
    module = getattr(extras, extra)()
    assert module.__name__ == extras.EXTRAS[extra][-1]
    assert module.__name__.partition(".")[0] == package


class NotInstalled:
    """An import hook for which one package does not exist."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named '{self.package}'", name=self.package)
