"""Run pytest in separate processes and write a row per test as soon as the test ends.

    python benchmarks/isolated.py --results FILE [--deadline UNIX_TIME] [--jobs N] NODE ... [-- PYTEST OPTIONS]

Each NODE, a test file or a test function, runs in a process of its own. If a test hangs, kills its process or leaves
the CUDA device unusable, only that test is lost: the other tests of the node go on in a new process. `report_rows.py`
is the pytest plugin on the other side.
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
from pathlib import Path
from select import select
from threading import Lock
from typing import BinaryIO, NamedTuple

from clustering.results import PACKAGES, Results, Row, describe_machine
from ovsr_gpu.runtime.device import choose_device

HERE = Path(__file__).resolve().parent
HIDDEN = {"test", "outcome", "seconds", "error"}
"""What a printed line of a row leaves out or shortens."""
KILL_SECONDS = 5
"""How long a killed process may take to end; one that waits for a GPU can take longer and is left behind."""


class Limits(NamedTuple):
    deadline: float
    """Unix time at which the last process is killed."""
    test_seconds: float
    """The longest silence of a process: one test, or the imports before the first."""


class Ending(NamedTuple):
    complete: bool
    """Whether the process ran all its tests."""
    running_test: str | None
    fault: str | None
    """None if the process ended by itself: when it was complete, or had lost its device."""


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
    """Run the tests of a node, in a new process after each test that took its process down."""
    finished: list[str] = []
    while time.time() < limits.deadline:
        ending = run_process(node, options, finished, limits, writer)
        if ending.fault is not None:
            test = ending.running_test or node
            outcome = "out of time" if time.time() >= limits.deadline else "crashed"
            writer.add({"test": test, "outcome": outcome, "seconds": None, "error": ending.fault})
            finished.append(test)
        if ending.complete or (ending.fault is not None and ending.running_test is None):
            return


def run_process(node: str, options: list[str], finished: list[str], limits: Limits, writer: RowWriter) -> Ending:
    """Run the tests of a node that are not `finished`, to which each test is added when its row arrives."""
    read_end, write_end = os.pipe()
    deselected = [f"--deselect={test}" for test in finished]
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
    with tempfile.TemporaryFile("w+") as output, open(read_end, "rb", buffering=0) as rows:
        process = subprocess.Popen(
            [*command, *options, *deselected], env=environment, pass_fds=[write_end], cwd=HERE.parent,
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


def follow(process: subprocess.Popen, rows: BinaryIO, finished: list[str], limits: Limits, writer: RowWriter) -> Ending:
    """Take the messages of a process until it ends, falls silent for too long, or the time is up."""
    running = None
    while True:
        silence = min(limits.test_seconds, limits.deadline - time.time())
        if not select([rows], [], [], max(silence, 0))[0]:
            return Ending(False, running, f"killed: silent for {silence:.0f} s")
        line = rows.readline()
        if not line:
            process.wait()
            return Ending(False, running, f"the process ended with status {process.returncode}")
        message = json.loads(line)
        if "started" in message:
            running = message["started"]
        elif "complete" in message:
            return Ending(message["complete"], None, None)
        else:
            running = None
            finished.append(message["test"])
            writer.add(message)


def kill(process: subprocess.Popen) -> None:
    """End a process and its children; a finished one gets the time to close its output first."""
    try:
        process.wait(timeout=1)
    except subprocess.TimeoutExpired:
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
    parser.add_argument("nodes", nargs="+", metavar="NODE")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--deadline", type=float, default=math.inf, help="Unix time at which to end; default: none")
    parser.add_argument("--test-seconds", type=float, default=60, help="limit of a test; default 60")
    return parser.parse_args(sys.argv[1:split]), sys.argv[split + 1 :]


if __name__ == "__main__":
    sys.exit(main())
