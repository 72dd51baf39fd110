"""What a mistake is."""

from dataclasses import dataclass, replace
from typing import Any

from lhc_ref.check.steps import CORRECT, Steps

PATTERNED = ("free", "rigid")
MASKED = (*PATTERNED, "masked", "hetconv", "nm")
LAYERS = (*MASKED, "csg", "lean")


@dataclass(frozen=True, eq=False)
class Mistake:
    """`changes` are the fields of Steps that differ; `common` ones are tried in pairs as well."""

    name: str
    changes: dict[str, Any]
    levels: tuple[str, ...] = LAYERS
    common: bool = True

    @property
    def steps(self) -> Steps:
        return replace(CORRECT, **self.changes)

    def with_(self, other: "Mistake") -> "Mistake | None":
        """Both at once, or None where both change the same step."""
        both = {**self.changes, **other.changes}
        shared = self.changes.keys() & other.changes.keys()
        if shared - {"finish"}:
            return None
        if shared:
            one, two = self.changes["finish"], other.changes["finish"]
            both["finish"] = lambda tensors, case: two(one(tensors, case), case)
        levels = tuple(level for level in self.levels if level in other.levels)
        return Mistake(f"{self.name}, and {other.name}", both, levels)
