"""The smallest case that still fails, found by Hypothesis from a case that does."""

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

from lhc_ref import extras
from lhc_ref.check.cases import Case, valid
from lhc_ref.errors import MissingExtraError

EXAMPLES = 60  # calls of the target for one case
SIZES = ("n", "h", "w", "kh", "kw", "ci", "co", "sy", "sx", "ry", "rx")
OWN_SIZES = {
    "free": ("gi", "go"),
    "rigid": ("gi", "go"),
    "csg": ("s", "m"),
    "lean": ("groups",),
    "regularizer": ("layers",),
}
CHOICES: dict[str, Any] = {
    "padding": "valid", "numbers": "integer", "scores": "plain", "enabled": "all", "bias": 0, "dtype": "float32",
}  # fmt: skip


def available() -> bool:
    """Whether Hypothesis is installed; without it cases are reported as they are."""
    try:
        extras.check()
    except MissingExtraError:
        return False
    return True


def smallest(case: Case, fails: Callable[[Case], bool]) -> Case:
    """A case that fails no less and is no larger in any respect; `case` itself where none is found.

    Parameters
    ----------
    case : one that fails
    fails : whether another fails in the same way; called up to EXAMPLES times
    """
    hypothesis = extras.check()
    try:
        found = hypothesis.find(
            _smaller(hypothesis, case),
            fails,
            settings=hypothesis.settings(
                max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
                suppress_health_check=list(hypothesis.HealthCheck), phases=_phases(hypothesis),
            ),
        )  # fmt: skip
    except hypothesis.errors.NoSuchExample:
        return case
    return found


def _phases(hypothesis: ModuleType) -> list[Any]:
    return [hypothesis.Phase.generate, hypothesis.Phase.shrink]


def _smaller(hypothesis: ModuleType, case: Case) -> Any:
    """Cases between the simplest and `case`, field by field: what is simpler is drawn as smaller."""
    st = hypothesis.strategies
    frozen = {"kh", "kw"} if case.level in ("rigid", "hetconv") else set()
    fields = {
        name: st.integers(1, getattr(case, name))
        for name in (*SIZES, *OWN_SIZES.get(case.level, ()))
        if getattr(case, name) > 1 and name not in frozen
    }
    fields |= {
        name: st.sampled_from([simple, getattr(case, name)])
        for name, simple in CHOICES.items()
        if getattr(case, name) != simple
    }
    fields |= {"seed": st.integers(0, 3)} if case.seed > 3 else {}
    drawn = st.fixed_dictionaries(fields).map(lambda values: replace(case, **values))
    return drawn.filter(valid)
