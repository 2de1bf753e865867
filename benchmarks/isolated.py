"""Run pytest in separate processes and write a row per test as soon as the test ends.

    python benchmarks/isolated.py --results FILE [--deadline UNIX_TIME] [--jobs N] NODE ... [-- PYTEST OPTIONS]

Each NODE, a test file or a test function, runs in its own process. If a test hangs, crashes its process or makes the
CUDA device unusable, only that test is lost: the remaining tests of the node run in a new process. The pytest plugin
`report_rows.py` sends the rows from that process.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from select import select
from threading import Lock
from typing import BinaryIO, NamedTuple

from clustering.results import PACKAGES, Results, Row, describe_machine
from ovsr_gpu.runtime.device import choose_device

HERE = Path(__file__).resolve().parent
HIDDEN = {"test", "outcome", "seconds", "error"}
"""Fields that a printed row leaves out or shortens."""
KILL_SECONDS = 5
"""Seconds that a killed process may take to end. A process that waits for a GPU can take longer and is abandoned."""


class Limits(NamedTuple):
    deadline: float
    """Unix time at which all processes are killed."""
    test_seconds: float
    """Maximum seconds without a message from a process: the time of one test, or of the imports before the first."""


class Ending(NamedTuple):
    complete: bool
    """Whether the process ran all its tests."""
    running_test: str | None
    fault: str | None
    """Reason why the process was killed or crashed. None if it finished, or ended because it had lost its device."""


class RowWriter:
    """Writes the rows of all processes to one file, prints them, and counts the outcomes."""

    def __init__(self, results: Results) -> None:
        self.results, self.outcomes, self._lock = results, Counter[str](), Lock()

    def add(self, row: Row) -> None:
        with self._lock:
            self.results.add(row)
            self.outcomes[row["outcome"]] += 1
            if row["outcome"] not in ("passed", "skipped") or row.keys() - HIDDEN:
                details = ", ".join(f"{key} {value}" for key, value in row.items() if key not in HIDDEN)
                reason = row.get("error", "").strip().splitlines()[-1:]
                print(f"{row['outcome']:8} {row['test'].rpartition('/')[2]}: {details}", *reason, flush=True)

    def print_output(self, title: str, output: str) -> None:
        with self._lock:
            print(f"--- output of {title}\n{output}", flush=True)


def run_node(node: str, options: list[str], limits: Limits, writer: RowWriter) -> None:
    """Run the tests of a node, in a new process after each test that ended its process."""
    if time.time() >= limits.deadline:
        error = "not started before the deadline"
        writer.add({"test": node, "outcome": "out of time", "seconds": None, "error": error})
    finished: set[str] = set()
    while time.time() < limits.deadline:
        num_finished = len(finished)
        ending = run_process(node, options, finished, limits, writer)
        if ending.fault is not None:
            test = ending.running_test or node
            outcome = "out of time" if time.time() >= limits.deadline else "crashed"
            writer.add({"test": test, "outcome": outcome, "seconds": None, "error": ending.fault})
            if ending.running_test is not None:
                finished.add(ending.running_test)
        if ending.complete or len(finished) == num_finished:  # without progress, a new process would end like this one
            return


def run_process(node: str, options: list[str], finished: set[str], limits: Limits, writer: RowWriter) -> Ending:
    """Run the tests of a node that are not in `finished`, and add each test to `finished` when its row arrives."""
    read_end, write_end = os.pipe()
    # Not --deselect, which would also deselect every test whose name begins like that of a finished one.
    skipped = [f"--finished={test}" for test in sorted(finished)]
    command = [
        sys.executable,
        "-m",
        "pytest",
        node,
        "-q",
        "-rs",
        "--tb=short",
        "--disable-warnings",
        "-p",
        "report_rows",
        "-p",
        "no:cacheprovider",
    ]
    environment = os.environ | {
        "ROWS_FD": str(write_end),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")])),
    }
    with tempfile.TemporaryFile("w+", errors="replace") as output, open(read_end, "rb", buffering=0) as rows:
        process = subprocess.Popen(
            [*command, *options, *skipped], env=environment, pass_fds=[write_end], cwd=HERE.parent,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        os.close(write_end)
        try:
            ending = follow(process, rows, finished, limits, writer)
        finally:
            kill(process)
        output.seek(0)
        writer.print_output(node, output.read())
    return ending


def follow(process: subprocess.Popen, rows: BinaryIO, finished: set[str], limits: Limits, writer: RowWriter) -> Ending:
    """Process the messages of a process until it ends, is silent for too long, or reaches the deadline."""
    running = None
    while True:
        silence = max(min(limits.test_seconds, limits.deadline - time.time()), 0)
        if not select([rows], [], [], silence)[0]:
            return Ending(False, running, f"killed: silent for {silence:.0f} s")
        line = rows.readline()
        if not line.endswith(b"\n"):  # the process has ended, perhaps in the middle of a message
            with suppress(subprocess.TimeoutExpired):
                process.wait(KILL_SECONDS)
            return Ending(False, running, f"the process ended with status {process.returncode}")
        message = json.loads(line)
        if "started" in message:
            running = message["started"]
        elif "complete" in message:
            return Ending(message["complete"], running, message.get("fault"))
        else:
            running = None
            finished.add(message["test"])
            writer.add(message)


def kill(process: subprocess.Popen) -> None:
    """End a process and its children, after waiting a second for it to finish by itself."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    with suppress(ProcessLookupError):  # the group is gone
        os.killpg(process.pid, signal.SIGKILL)
    try:
        process.wait(timeout=KILL_SECONDS)
    except subprocess.TimeoutExpired:
        print(f"process {process.pid} does not end after SIGKILL", flush=True)


def main() -> int:
    arguments, options = parse_arguments()
    try:
        device = choose_device(arguments.device)
    except ValueError as error:
        print(error)
        return 2
    writer = RowWriter(Results(arguments.results, describe_machine(device, PACKAGES)))
    limits = Limits(arguments.deadline, arguments.test_seconds)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        runs = [pool.submit(run_node, node, options, limits, writer) for node in arguments.nodes]
    for run in runs:
        run.result()
    print(", ".join(f"{count} {outcome}" for outcome, count in writer.outcomes.items()) or "no test ran")
    return 0 if writer.outcomes.keys() <= {"passed", "skipped"} and writer.outcomes else 1


def parse_arguments() -> tuple[argparse.Namespace, list[str]]:
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nodes", nargs="+", metavar="NODE", help="test file or test function")
    parser.add_argument("--results", type=Path, required=True, help="JSON file of the rows")
    parser.add_argument("--device", default="auto", help="device to describe in the file (default: auto)")
    parser.add_argument("--jobs", type=int, default=1, help="number of processes at a time (default: 1)")
    parser.add_argument("--deadline", type=float, default=math.inf, help="Unix time at which to stop (default: none)")
    parser.add_argument("--test-seconds", type=float, default=60, help="time limit of a test in seconds (default: 60)")
    return parser.parse_args(sys.argv[1:split]), sys.argv[split + 1 :]


if __name__ == "__main__":
    sys.exit(main())
