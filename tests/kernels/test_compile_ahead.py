"""Every Triton kernel compiles for GPUs that are not present, within bounds of registers and spills."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="the Triton kernels need triton")

MAX_REGISTERS = 128  # of 65,536 for the 512 threads of a program
MAX_STACK = 128  # bytes per thread: spills and call frames


@pytest.mark.slow
def test_every_kernel_compiles_ahead_within_bounds():
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, str(Path(__file__).with_name("compile_ahead.py"))]
    running = [
        subprocess.Popen([*command, capability], stdout=subprocess.PIPE, text=True, env=environment)
        for capability in ("80", "90", "100")
    ]
    kernels = []
    for compiler in running:
        output, _ = compiler.communicate(timeout=500)
        assert compiler.returncode == 0
        kernels += [json.loads(line) for line in output.splitlines()]
    assert len(kernels) == 3 * 2 * 23
    for kernel in kernels:
        assert kernel["registers"] <= MAX_REGISTERS, kernel
        assert kernel["stack"] <= MAX_STACK, kernel
        assert kernel["local"] == 0, kernel
