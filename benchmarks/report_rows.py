"""A pytest plugin that sends one JSON line per test to the parent process, `isolated.py`.

Messages: {"started": TEST}; the row of a finished test, including the fields that the test passed to
`record_property("row", {...})`; and finally {"complete": BOOL}, false if the session stopped because the CUDA device
was lost, or with a "fault" because pytest could not run all tests.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

LOST_DEVICE = ("CUDA error", "CUDA_ERROR", "Triton Error [CUDA]")
"""Texts of errors after which a process may be unable to use its CUDA device."""
ERROR_CHARACTERS = 2000


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--finished", action="append", default=[], help="node id of a test to leave out")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    finished = set(config.getoption("--finished"))
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in finished])
    items[:] = [item for item in items if item.nodeid not in finished]


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(RowReporter(int(os.environ["ROWS_FD"])))


class RowReporter:
    """Sends a message for each started test, each finished test and the end of the session."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._lost_device, self._has_collection_error = descriptor, False, False

    def _write(self, message: dict[str, Any]) -> None:
        os.write(self._descriptor, (json.dumps(message, default=str) + "\n").encode())

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._write({"started": nodeid})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.passed:
            return
        row = dict(report.user_properties).get("row", {})
        self._send_report(report, {**row, "seconds": round(report.duration, 3)})

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._has_collection_error |= report.failed
        if not report.passed:
            self._send_report(report, {"seconds": None})

    def _send_report(self, report: pytest.TestReport | pytest.CollectReport, details: dict[str, Any]) -> None:
        error = {}
        if report.skipped:
            error["error"] = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
        elif report.failed:
            error["error"] = report.longreprtext[-ERROR_CHARACTERS:]
            self._lost_device |= any(text in report.longreprtext for text in LOST_DEVICE)
        self._write({**details, **error, "test": report.nodeid, "outcome": report.outcome})

    def pytest_runtest_logfinish(self) -> None:
        if self._lost_device:
            pytest.exit("the CUDA device is lost; the remaining tests need a new process")

    @pytest.hookimpl(tryfirst=True)  # before the teardown of session fixtures, which can fail without a device
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        nothing_left = exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED  # all are finished, or their module skips them
        has_run_all = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) or nothing_left
        if self._lost_device:
            self._write({"complete": False})
        elif has_run_all or self._has_collection_error:
            self._write({"complete": True})
        else:
            self._write({"complete": False, "fault": f"pytest ended with exit status {int(exitstatus)}"})
