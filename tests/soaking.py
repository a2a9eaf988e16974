"""Lets `make soak` go on where it was interrupted: what has passed on this very commit is not run again.

`pytest -p tests.soaking` writes the name of each test that has passed into `.soak/<commit>-<digest of the numbers>`,
the numbers being all of LACUNA_SOAK_*, and leaves out the tests that are there. Where the working tree is not that of
its commit it does neither.
"""

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

_FOLDER: Final = ".soak"
_NUMBERS: Final = "LACUNA_SOAK_"
_CHARACTERS: Final = 12
_PHASES: Final = {"setup", "call", "teardown"}


def pytest_configure(config: pytest.Config) -> None:
    """Called by pytest."""
    config.pluginmanager.register(Soak(config.rootpath))


def record_of(root: Path) -> Path | None:
    """The file of what has passed on the commit that lies at `root`; None where anything differs from a commit."""
    command = ["git", "-C", str(root), "status", "--porcelain=v2", "--branch"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return None
    commits = [line.removeprefix("# branch.oid ") for line in lines if line.startswith("# branch.oid ")]
    if not commits or not all(line.startswith("# ") for line in lines):
        return None
    return root / _FOLDER / f"{commits[0][:_CHARACTERS]}-{_digest_of_numbers()}"


def _digest_of_numbers() -> str:
    numbers = sorted((name, value) for name, value in os.environ.items() if name.startswith(_NUMBERS))
    return hashlib.sha256(json.dumps(numbers).encode()).hexdigest()[:_CHARACTERS]


class Soak:
    """What pytest calls in one run."""

    def __init__(self, root: Path) -> None:
        self._root, self._record = root, record_of(root)
        there = self._record is not None and self._record.exists()
        self._known = set(self._record.read_text().splitlines()) if self._record and there else set[str]()
        self._num_left_out = 0
        self._passed: dict[str, set[str]] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leaves out what is known to pass."""
        known = [item for item in items if item.nodeid in self._known]
        items[:] = [item for item in items if item.nodeid not in self._known]
        self._num_left_out = len(known)
        config.hook.pytest_deselected(items=known)

    def pytest_report_collectionfinish(self) -> str:
        """The line below the number of tests."""
        if self._record is None:
            return "soak: the working tree is not that of a commit; no test is left out and none that passes is noted"
        return f"soak: {self._num_left_out} tests left out that have passed by {self._record.relative_to(self._root)}"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Notes a test once it has passed as a whole, on the commit that is still there."""
        phases = self._passed.setdefault(report.nodeid, set())
        if report.passed:
            phases.add(report.when or "")
        if report.when == "teardown" and phases == _PHASES and self._record and record_of(self._root) == self._record:
            self._record.parent.mkdir(exist_ok=True)
            with self._record.open("a") as record:
                record.write(f"{report.nodeid}\n")

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Nothing left to run is a good end."""
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and self._num_left_out:
            session.exitstatus = pytest.ExitCode.OK
