"""What was found, as a table for people, JSON and JUnit for machines; and the list of failures that are expected."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from lhc_ref.check.compare import Finding
from lhc_ref.check.runner import REPRODUCIBILITY, Results
from lhc_ref.errors import ConfigError

AREAS = (
    "forward", "mask", "dx", "dkernel", "dscores", "dbias", "kernel", "dcodes", "dgenerator", "dstencil", "dpointwise",
    "regularizer", "enabled", "grouping", "padding", "stride", "dilation", "dtype", "determinism", "threads", "batch",
)  # fmt: skip


NOTES = 3  # reasons for "not run" in one row


def headline(findings: Iterable[Finding]) -> str:
    """ "12 passed, 1 failed, 2 not run"."""
    counts = dict.fromkeys(("passed", "failed", "expected failure", "not run"), 0)
    for f in findings:
        counts[f.status] += 1
    return ", ".join(f"{n} {status}" for status, n in counts.items() if n or status in ("passed", "failed"))


def table(results: Results) -> str:
    """The whole report for people."""
    declared = [f for f in results.findings if f.case.level in results.plan.targets]
    lines: list[str] = []
    for level in dict.fromkeys(f.case.level for f in declared):
        own = [f for f in declared if f.case.level == level]
        lines += [
            "",
            f"{level}: {results.plan.targets[level]}",
            f"  {'area':14}{'passed':>8}{'failed':>8}{'not run':>9}",
        ]
        lines += [_row(area, [f for f in own if f.area == area]) for area in AREAS if any(f.area == area for f in own)]
    undeclared = [f.case.level for f in results.findings if f.case.level not in results.plan.targets]
    if undeclared:
        lines += ["", f"not run, not declared: {', '.join(undeclared)}"]
    for alike in _alike(results.of("failed")):
        lines += ["", *describe(alike[0], alike)]
    return "\n".join([*lines, "", headline(results.findings)]).lstrip("\n")


def _alike(failed: list[Finding]) -> list[list[Finding]]:
    """Failures that one text can tell: of one level and diagnosis, or undiagnosed of one tensor or calls."""
    groups: dict[tuple, list[Finding]] = {}
    for f in failed:
        key = (f.case.level, f.diagnosis or (f.tensor, f.why if f.tensor == "call" else ""))
        groups.setdefault(key, []).append(f)
    return [sorted(group, key=lambda f: not f.smallest) for group in groups.values()]


def _row(area: str, findings: list[Finding]) -> str:
    count = {s: sum(f.status == s for f in findings) for s in ("passed", "failed", "not run", "expected failure")}
    notes = dict.fromkeys(f.why for f in findings if f.why and f.status == "not run")
    if area in REPRODUCIBILITY:
        notes |= dict.fromkeys(f.why for f in findings if f.status == "passed")
    if count["expected failure"]:
        notes[f"{count['expected failure']} expected to fail"] = None
    told, more = list(notes)[:NOTES], len(notes) - NOTES
    told += [f"and {more} other reasons (--json)"] if more > 0 else []
    text = f"  {area:14}{count['passed']:>8}{count['failed']:>8}{count['not run']:>9}   {'; '.join(told)}"
    return text.rstrip()


def describe(f: Finding, alike: list[Finding]) -> list[str]:
    areas = {area: [g.tensor for g in alike if g.area == area] for area in dict.fromkeys(g.area for g in alike)}
    shown = "; ".join(f"{area} ({len(own)}: {', '.join(dict.fromkeys(own))})" for area, own in areas.items())
    lines = [f"FAILED {f.case.level}: {shown}", f"  {f.tensor}: {f.why}"]
    if f.got is not None:
        lines.append(f"  worst at {list(f.at)}: got {f.got!r}, expected {f.want!r}")
        error = abs(f.got - (f.want or 0.0))
        lines.append(f"  error {error:.3g}, budget {f.budget:.3g} = {f.derivation}")
    lines.append(f"  {'smallest case' if f.smallest else 'case'}: --case {f.smallest or f.case.id}")
    if f.got is None and not f.diagnosis:
        return lines
    if f.diagnosis:
        lines += [f"  diagnosis: {'or: ' if i else ''}{text}" for i, text in enumerate(f.diagnosis)]
    else:
        lines.append("  diagnosis: no known mistake reproduces these numbers")
    return lines


def as_json(results: Results) -> dict[str, Any]:
    """Counts by level and area, and each finding that is not a pass."""
    areas: dict[str, dict[str, dict[str, int]]] = {}
    for f in results.findings:
        counts = areas.setdefault(f.case.level, {}).setdefault(f.area, {})
        counts[f.status] = counts.get(f.status, 0) + 1
    return {
        "targets": dict(results.plan.targets),
        "dtypes": list(results.plan.dtypes),
        "seed": results.plan.seed,
        "areas": areas,
        "findings": [_finding_as_json(f) for f in results.findings if f.status != "passed"],
    }


def _finding_as_json(f: Finding) -> dict[str, Any]:
    return {
        "level": f.case.level, "area": f.area, "tensor": f.tensor, "status": f.status, "case": f.case.id, "why": f.why,
        "at": list(f.at), "got": _number(f.got), "expected": _number(f.want), "budget": f.budget,
        "derivation": f.derivation, "diagnosis": list(f.diagnosis), "smallest_case": f.smallest,
    }  # fmt: skip


def _number(value: float | None) -> float | str | None:
    """JSON has no NaN and no infinity: those as text."""
    return value if value is None or abs(value) < float("inf") else repr(value)


def junit(results: Results) -> bytes:
    """One test case for each check, in the form that CI systems read."""
    suites = ElementTree.Element("testsuites")
    for level in dict.fromkeys(f.case.level for f in results.findings):
        own = [f for f in results.findings if f.case.level == level]
        failed, skipped = (sum(f.status in s for f in own) for s in (("failed",), ("not run", "expected failure")))
        counts = {"tests": str(len(own)), "failures": str(failed), "skipped": str(skipped), "errors": "0"}
        suite = ElementTree.SubElement(suites, "testsuite", {"name": f"lhc.{level}", **counts})
        for f in own:
            name = f"{f.tensor} {f.case.id}"
            test = ElementTree.SubElement(suite, "testcase", classname=f"lhc.{level}.{f.area}", name=name, time="0")
            if f.status == "failed":
                node = ElementTree.SubElement(test, "failure", message=f.why)
                node.text = "\n".join(describe(f, [f]))
            elif f.status != "passed":
                ElementTree.SubElement(test, "skipped", message=f.why or f.status)
    return ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)


# --- Expected failures -----------------------------------------------------------------------------------------------


def read_expected(path: Path, levels: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Lines "LEVEL/AREA" of an xfail file, `#` starting a comment: line -> (level, area).

    Raises
    ------
    ConfigError : a line that is no such pair, or whose level is not declared.
    """
    lines: dict[str, tuple[str, str]] = {}
    for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        line = raw.partition("#")[0].strip()
        if not line:
            continue
        level, _, area = line.partition("/")
        if level not in levels or area not in AREAS:
            raise ConfigError(
                f"{path}:{number}: expected LEVEL/AREA with a level that is checked and an area of the report, "
                f"got {line!r}. Write such as free/dilation."
            )
        lines[f"{path}:{number}: {line}"] = (level, area)
    return lines


def expect(results: Results, lines: Mapping[str, tuple[str, str]]) -> list[str]:
    """Turn the failures that the lines name into expected ones; the stale lines, which name none."""
    stale = []
    for line, key in lines.items():
        hit = False
        for i, f in enumerate(results.findings):
            if (f.case.level, f.area) == key and f.status in ("failed", "expected failure"):
                results.findings[i], hit = replace(f, status="expected failure"), True
        if not hit:
            stale.append(f"{line}: expected a failure, got none. Remove the line.")
    return stale


def dumps(results: Results) -> str:
    """The JSON report as text."""
    return json.dumps(as_json(results), indent=2, allow_nan=False) + "\n"
