"""The suite as pytest tests, one a case:

    pytest --lhc-target my_package.layers:LhcConv2d --lhc-options='--framework torch'

The tests stand beside the project's own. `--lhc-options` takes what `lhc-ref check` takes; a line of --xfail marks its
area's failures as expected ones.
"""

import argparse
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lhc_ref.check import cli, failures, report, runner
from lhc_ref.check.cases import Case
from lhc_ref.check.compare import Finding
from lhc_ref.check.process import Target
from lhc_ref.errors import LhcError


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("lhc", "check an LHC layer")
    group.addoption("--lhc-target", metavar="PACKAGE.MODULE:OBJECT", help="the layer to check")
    group.addoption("--lhc-options", default="", metavar="OPTIONS", help="options of lhc-ref check, in one argument")


def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add a test for each case where a target is named."""
    if config.getoption("--lhc-target"):
        suite = Suite.from_parent(session, name="lhc", path=config.rootpath)
        items += list(suite.collect())


class Suite(pytest.Collector):
    """All cases, and the process that answers them."""

    def collect(self) -> Iterator[pytest.Item]:
        """An item for each case."""
        parser = argparse.ArgumentParser(prog="--lhc-options", exit_on_error=False)
        cli.add_parser(parser.add_subparsers())
        options = shlex.split(self.config.getoption("--lhc-options"))
        try:
            args = parser.parse_args(["check", self.config.getoption("--lhc-target"), *options])
            self.plan = cli.plan_of(args)
            lines = report.read_expected(args.xfail, self.plan.targets) if args.xfail else {}
        except (LhcError, argparse.ArgumentError) as error:
            raise pytest.UsageError(str(error)) from error
        paths = (os.getcwd(), str(self.config.rootpath))
        self.target = Target(args.framework, cli.declaration_of(args), args.timeout, paths)
        self.config.add_cleanup(self.target.close)
        expected = set(lines.values())
        for case in self.plan.chosen():
            item = CaseItem.from_parent(self, name=case.id)
            item.case, item.expected = case, expected
            yield item


class CaseItem(pytest.Item):
    """One case: fails with the tensors, numbers and budgets that are wrong."""

    case: Case
    expected: set[tuple[str, str]]

    def runtest(self) -> None:
        """Call the target, and judge."""
        suite: Any = self.parent
        findings, outcome = runner.check_case(suite.plan, suite.target, self.case)
        results = runner.Results(suite.plan, findings, {self.case.id: outcome})
        failures.explain(results, pairs=0)
        findings, failed = results.findings, results.of("failed")
        if any((self.case.level, f.area) in self.expected for f in findings):
            unexpected = [f for f in failed if (self.case.level, f.area) not in self.expected]
            if not unexpected and failed:
                pytest.xfail("; ".join(f"{f.tensor}: {f.why}" for f in failed))
            failed = unexpected
        if failed:
            raise CaseFailedError(failed)
        if all(f.status == "not run" for f in findings):
            pytest.skip(findings[0].why)

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        """What is wrong, without a traceback through us."""
        if isinstance(excinfo.value, CaseFailedError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where pytest says that this is."""
        return self.path, None, f"lhc {self.case.id}"


class CaseFailedError(Exception):
    """The failures of one case, as text."""

    def __init__(self, failed: list[Finding]) -> None:
        super().__init__("\n".join(line for f in failed for line in report.describe(f, [f])))
