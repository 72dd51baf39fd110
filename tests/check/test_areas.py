"""Each area of the report can be shown passing and failing by the commands in docs/check.md."""

import json
import re
from pathlib import Path

import pytest

from lhc_ref.check.report import AREAS
from lhc_ref.cli import main

DOCS = (Path(__file__).parents[2] / "docs" / "check.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| (\w+) \| `lhc-ref (check tests\.check\.wrong:.*)` \|$", DOCS, re.M))


def areas(command, capsys):
    """Exit code, and area -> statuses, the levels together."""
    code = main([*command.split(), "--json", "-"])
    found = {}
    for counts in json.loads(capsys.readouterr().out)["areas"].values():
        for area, statuses in counts.items():
            found.setdefault(area, set()).update(statuses)
    return code, found


@pytest.mark.parametrize(("target", "status", "code"), [("right:layer", "passed", 0), ("wrong:all_wrong", "failed", 1)])
def test_every_area_at_once(target, status, code, capsys):
    (command,) = re.findall(rf"    lhc-ref (check tests\.check\.{target} .*)", DOCS)
    got, found = areas(command, capsys)
    assert got == code
    assert {area for area, statuses in found.items() if status in statuses} == set(AREAS)


def test_the_table_has_every_area():
    assert list(ROWS) == list(AREAS)


@pytest.mark.parametrize("area", ROWS)
def test_an_area_alone(area, capsys):
    code, found = areas(ROWS[area], capsys)
    assert code == 1
    assert "failed" in found[area]
    for other in {"forward", "mask"} - {area}:
        assert area == "batch" or "failed" not in found.get(other, ())


@pytest.mark.parametrize("area", ["determinism", "threads", "batch"])
def test_a_failure_to_reproduce_can_be_replayed(area, capsys):
    main([*ROWS[area].split(), "--json", "-"])
    (case,) = (
        f["case"]
        for f in json.loads(capsys.readouterr().out)["findings"]
        if f["area"] == area and f["status"] == "failed"
    )
    code, found = areas(f"{ROWS[area]} --case {case}", capsys)
    assert code == 1
    assert "failed" in found[area]
