"""What a layer answered, beside what the reference and known mistakes would have answered."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from lhc_ref.check.cases import Case
from lhc_ref.check.mistakes import Mistake
from lhc_ref.check.precision import Precision
from lhc_ref.check.process import Outcome
from lhc_ref.check.reference import Answer, solve
from lhc_ref.check.steps import CORRECT, Steps
from lhc_ref.errors import LhcError

Call = tuple[Case, Outcome]


class Evidence:
    """One tensor's calls, failed and passed, and what mistakes would have answered, computed once (`answers`)."""

    def __init__(
        self, failed: Sequence[Call], passed: Sequence[Call], precision_of: Mapping[str, Precision], answers: dict
    ) -> None:
        self.failed, self.passed, self.precision_of = failed, passed, precision_of
        self._answers: dict[tuple[str, str], Answer | None] = answers

    def answer(self, name: str, steps: Steps, case: Case) -> Answer | None:
        """What these steps answer; None where they cannot."""
        key = name, case.id
        if key not in self._answers:
            precision = replace(self.precision_of[case.dtype], exact=False)
            try:
                with np.errstate(all="ignore"):
                    self._answers[key] = solve(case, precision, steps)
            except (LhcError, ValueError, IndexError):
                self._answers[key] = None
        return self._answers[key]

    def right(self, case: Case) -> Answer:
        found = self.answer("", CORRECT, case)
        return found if found is not None else {}

    def reproduces(self, mistake: Mistake, tensor: str, calls: Iterable[Call]) -> bool:
        """Whether it gives the user's numbers in all these calls."""
        return all(self._alike(mistake, tensor, *call) for call in calls)

    def _alike(self, mistake: Mistake, tensor: str, case: Case, outcome: Outcome) -> bool:
        answer = self.answer(mistake.name, mistake.steps, case)
        if answer is None or tensor not in answer:
            return False
        return near(outcome.arrays[tensor], answer, tensor, self.precision_of[case.dtype])

    def differs(self, mistake: Mistake, tensor: str, case: Case) -> bool:
        """Whether this tensor shows the mistake at all in a case."""
        answer, right = self.answer(mistake.name, mistake.steps, case), self.right(case)
        if answer is None or tensor not in answer:
            return False
        return not near(answer[tensor].value, right, tensor, self.precision_of[case.dtype])


def near(got: np.ndarray, answer: Answer, tensor: str, precision: Precision) -> bool:
    """Within the budget of what a mistake answers, and a few roundings of its largest number: mistakes mix elements."""
    e = answer[tensor]
    if got.shape != e.value.shape:
        return False
    with np.errstate(invalid="ignore", over="ignore"):
        both_nan = np.isnan(got) & np.isnan(e.value)
        slack = e.budget + 8 * precision.storage.u * np.abs(e.value).max(initial=0, where=np.isfinite(e.value))
        return bool((both_nan | (np.abs(got - e.value) <= slack)).all())
