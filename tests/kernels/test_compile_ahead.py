"""Every Triton kernel compiles for GPUs that are not here, within a bound of registers and spills."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="the Triton kernels need triton")

REGISTERS = 128  # of 65,536 for the 512 threads of a program
STACK = 128  # bytes a thread: what the compiler spills, and its call frames


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
        assert kernel["registers"] <= REGISTERS, kernel
        assert kernel["stack"] <= STACK, kernel
        assert kernel["local"] == 0, kernel
