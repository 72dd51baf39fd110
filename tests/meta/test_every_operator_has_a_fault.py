"""No operator is without a planted fault, so its tests are seen to fail: a new one has to bring its own."""

import inspect
from pathlib import Path

import pytest

from lhc_ref.tape import VJPS
from tests.lhc_ref.test_every_operator import CASES, COMPOSED
from tests.meta.faults_operators import OPERATORS
from tests.meta.faults_related import RELATED
from tests.meta.mutants import ROOT, changed_functions, mutate, reached_functions


@pytest.fixture(scope="module")
def spoilt():
    """Path -> names of the functions that a planted fault changes."""
    found = {}
    for mutant in OPERATORS + RELATED:
        source = (ROOT / mutant.path).read_text(encoding="utf-8")
        found.setdefault(mutant.path, set()).update(changed_functions(source, mutate(source, mutant)))
    return found


@pytest.mark.parametrize("primal", [*CASES, *COMPOSED], ids=lambda primal: primal.__name__)
def test_every_operator_has_a_planted_fault(primal, spoilt):
    """In itself, its derivative, or what the two are made of."""
    vjp = VJPS.get(primal, ())
    names = {primal.__name__, *(part.__name__ for part in (vjp if isinstance(vjp, tuple) else (vjp,)))}
    path = Path(inspect.getsourcefile(primal))
    assert reached_functions(path.read_text(encoding="utf-8"), names) & spoilt[path.relative_to(ROOT).as_posix()]


SOURCE = """
def f(x):
    return g(x)
def g(x):
    return Case(x).y()
class Case:
    def y(self):
        return 1
def h(x):
    return 2
"""


def test_what_is_changed_and_what_is_reached():
    assert changed_functions(SOURCE, SOURCE.replace("return 2", "return 3")) == {"h"}
    assert changed_functions(SOURCE, SOURCE) == set()
    assert reached_functions(SOURCE, {"f"}) == {"f", "g", "Case", "y"}
    assert reached_functions(SOURCE, {"h", "elsewhere"}) == {"h", "elsewhere"}
