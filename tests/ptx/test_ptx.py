"""The emulator on small PTX programs, and the kernels in the emulator: a few cases of each, and faults it must find."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ptx.findings import Findings, Severity
from ptx.launch import Launch, LaunchOptions
from ptx.memory import Segment
from ptx.program import Program

WARP = 32
BASE = 1 << 20
STORE_INDEX = """
mov.u32 %r1, %tid.x;
mul.wide.u32 %rd2, %r1, 4;
add.s64 %rd3, %rd1, %rd2;
st.global.b32 [%rd3], %r1;
"""


def make_program(body: str, num_threads: int = WARP) -> Program:
    """Return a kernel with one pointer, which it holds in %rd1."""
    return Program(
        f"""
.visible .entry test_kernel(
    .param .u64 .ptr .global .align 1 test_kernel_param_0
)
.reqntid {num_threads}
{{
ld.param.b64 %rd1, [test_kernel_param_0];
{body}
ret;
}}
""",
        shared_bytes=512,
    )


def run(
    body: str,
    num_words: int = WARP,
    num_threads: int = WARP,
    *,
    is_undefined: bool = False,
    options: LaunchOptions | None = None,
) -> tuple[np.ndarray, Findings, Launch]:
    """Run a kernel on int32 zeros; return these afterwards."""
    data = np.zeros(4 * num_words, np.uint8)
    undefined = np.ones(num_words, bool) if is_undefined else None
    findings = Findings()
    segment = Segment("values", BASE, data, 4, undefined)
    launch = Launch(make_program(body, num_threads), [BASE], [segment], (1,), findings, options)
    launch.run()
    return data.view(np.int32), findings, launch


def kinds(findings: Findings) -> set[tuple[str, Severity]]:
    return {(finding.kind, finding.severity) for finding in findings}


def test_arithmetic_on_thread_numbers():
    values, findings, launch = run(
        "mov.u32 %r1, %tid.x;\nmad.lo.s32 %r2, %r1, 3, -5;\n" + STORE_INDEX.replace("], %r1", "], %r2")
    )
    assert values.tolist() == [3 * thread - 5 for thread in range(WARP)]
    assert not len(findings)
    assert launch.num_instructions == 8


def test_minimum_of_three():
    body = """
mov.b32 %r1, 0f40000000;
mov.b32 %r2, 0f3F800000;
mov.b32 %r3, 0f3F000000;
min.f32 %r4, %r1, %r2, %r3;
max.f32 %r5, %r2, %r3, %r1;
st.global.v2.b32 [%rd1], {%r4, %r5};
"""
    values, _, _ = run(body, 2)
    assert values.view(np.float32).tolist() == [0.5, 2.0]


def test_bit_fields_and_pairs_of_halves():
    body = """
mov.b32 %r1, 0x000000e5;
bfe.u32 %r2, %r1, 5, 3;
bfe.s32 %r3, %r1, 5, 3;
bfe.s32 %r4, %r1, 1, 3;
mov.b32 %r5, 0f3F800000;
mov.b32 %r6, 0fC0000000;
cvt.rn.f16x2.f32 %r7, %r5, %r6;
cvt.rn.bf16x2.f32 %r8, %r5, %r6;
st.global.v2.b32 [%rd1], {%r2, %r3};
st.global.v2.b32 [%rd1+8], {%r4, %r7};
st.global.b32 [%rd1+16], %r8;
"""
    values, _, _ = run(body, 5)
    assert values[:3].tolist() == [7, -1, 2]
    assert values[3:4].view(np.float16).tolist() == [-2.0, 1.0]
    assert values.view(np.uint16)[-2:].tolist() == [0xC000, 0x3F80]


@pytest.mark.parametrize("modifier", ["", ".trans"])
def test_matrices_of_shared_memory(modifier):
    """8 by 8 elements 0 to 63 of 16 bits, of which ldmatrix gives two to each thread."""
    body = f"""
mov.u32 %r1, %tid.x;
mad.lo.s32 %r2, %r1, 0x00020002, 0x00010000;
shl.b32 %r3, %r1, 2;
st.shared.b32 [%r3], %r2;
bar.sync 0;
and.b32 %r4, %r1, 7;
shl.b32 %r4, %r4, 4;
ldmatrix.sync.aligned.m8n8.x1{modifier}.shared.b16 {{%r5}}, [%r4];
stmatrix.sync.aligned.m8n8.x1{modifier}.shared.b16 [%r4+128], {{%r5}};
bar.sync 0;
ld.shared.b32 %r6, [%r3+128];
mul.wide.u32 %rd2, %r1, 4;
add.s64 %rd3, %rd1, %rd2;
st.global.b32 [%rd3], %r5;
st.global.b32 [%rd3+128], %r6;
"""
    values, findings, _ = run(body, 2 * WARP)
    loaded, stored = values.view(np.int16).reshape(2, 8, 8)
    matrix = np.arange(64).reshape(8, 8)
    assert loaded.tolist() == (matrix.T if modifier else matrix).tolist()
    assert stored.tolist() == matrix.tolist()
    assert not findings.errors


def test_a_loop_and_a_guard():
    body = """
mov.b32 %r3, 0;
$L1:
add.s32 %r3, %r3, 1;
setp.lt.s32 %p1, %r3, 10;
@%p1 bra $L1;
mov.u32 %r1, %tid.x;
setp.gt.u32 %p2, %r1, 15;
mul.wide.u32 %rd2, %r1, 4;
add.s64 %rd3, %rd1, %rd2;
@%p2 st.global.b32 [%rd3], %r3;
"""
    values, findings, _ = run(body)
    assert values.tolist() == [0] * 16 + [10] * 16
    assert not len(findings)


def test_threads_that_take_different_branches_join_again():
    """Threads above 15 store 100; of the others those above 7 store 50, and the rest their number after a loop."""
    body = """
mov.u32 %r1, %tid.x;
mul.wide.u32 %rd2, %r1, 4;
add.s64 %rd3, %rd1, %rd2;
mov.b32 %r2, 100;
setp.gt.u32 %p1, %r1, 15;
@%p1 bra $L3;
mov.b32 %r2, 50;
setp.gt.u32 %p2, %r1, 7;
@%p2 bra $L3;
mov.b32 %r2, 0;
$L1:
setp.eq.u32 %p3, %r2, %r1;
@%p3 bra $L2;
add.s32 %r2, %r2, 1;
bra $L1;
$L2:
st.global.b32 [%rd3], -1;
$L3:
ld.global.b32 %r3, [%rd3];
add.s32 %r2, %r2, %r3;
st.global.b32 [%rd3], %r2;
"""
    values, findings, _ = run(body)
    assert values.tolist() == [*(thread - 1 for thread in range(8)), *[50] * 8, *[100] * 16]
    assert not len(findings)


def test_threads_that_disagree_whether_to_wait_are_refused():
    with pytest.raises(NotImplementedError, match="disagree at a branch"):
        run("mov.u32 %r1, %tid.x;\nsetp.gt.u32 %p1, %r1, 15;\n@%p1 bra $L1;\nbar.sync 0;\n$L1:\nadd.s32 %r1, %r1, 1;")


def test_an_endless_loop_is_stopped():
    with pytest.raises(RuntimeError, match="runs without end"):
        run("$L1:\nadd.s32 %r1, %r1, 1;\nbra $L1;", options=LaunchOptions(block_limit=100))


def test_an_unknown_instruction_is_refused():
    with pytest.raises(NotImplementedError, match=r"does not support `vadd\.s32"):
        make_program("vadd.s32 %r1, %r2, %r3;")


@pytest.mark.parametrize("schedule", ["lockstep", "warps"])
@pytest.mark.parametrize("barrier", ["", "bar.sync 0;"])
def test_a_race_between_warps_ends_at_a_barrier(barrier, schedule):
    """Each thread stores to its own element, then reads that of the thread 32 further on."""
    read = "xor.b32 %r4, %r1, 32;\nmul.wide.u32 %rd4, %r4, 4;\nadd.s64 %rd5, %rd1, %rd4;\nld.global.b32 %r5, [%rd5];"
    options = LaunchOptions(schedule=schedule)
    _, findings, launch = run(f"{STORE_INDEX}{barrier}\n{read}", 64, 64, options=options)
    assert launch.num_barriers == bool(barrier)
    if barrier:
        assert not len(findings)
    elif schedule == "lockstep":
        assert ("read after write, across warps", Severity.RACE) in kinds(findings)
    else:
        assert ("write after read, across warps", Severity.RACE) in kinds(findings)


def test_threads_that_store_to_one_element():
    _, findings, _ = run("mov.u32 %r1, %tid.x;\nst.global.b32 [%rd1], %r1;", 64, 64)
    assert ("two lanes write at once, across warps", Severity.RACE) in kinds(findings)


def test_a_read_of_unwritten_memory():
    read = "ld.global.b32 %r5, [%rd3];\nld.global.b32 %r6, [%rd1+128];"
    _, findings, _ = run(STORE_INDEX + read, 33, is_undefined=True)
    assert kinds(findings) == {("read of never-written memory", Severity.UNDEFINED)}
    (finding,) = findings
    assert finding.count == WARP
    assert "values[32]" in finding.example


def test_an_access_out_of_bounds():
    values, findings, _ = run(STORE_INDEX, WARP - 1)
    assert kinds(findings) == {("global access out of bounds", Severity.INVALID)}
    assert values.tolist() == list(range(WARP - 1))


def test_a_misaligned_access():
    _, findings, _ = run("ld.global.b32 %r1, [%rd1+2];")
    assert kinds(findings) == {("misaligned access", Severity.INVALID)}


@pytest.mark.parametrize(
    "instruction",
    [
        "atom.global.gpu.acq_rel.add.u32 %r2, [%rd1], %r1;",
        "atom.global.gpu.relaxed.add.u32 %r2, [%rd1], %r1;",
        "red.global.gpu.relaxed.add.u32 [%rd1], %r1;",
        "red.relaxed.gpu.global.add.u32 [%rd1], %r1;",
        "red.global.add.u32 [%rd1], %r1;",
    ],
)
def test_atomic_instructions(instruction):
    values, findings, _ = run(f"mov.u32 %r1, %tid.x;\n{instruction}", 1)
    assert values.tolist() == [WARP * (WARP - 1) // 2]
    assert not len(findings)


def test_a_plain_read_races_with_atomic_ones():
    _, findings, _ = run("mov.u32 %r1, %tid.x;\nred.global.add.u32 [%rd1], %r1;\nld.global.b32 %r2, [%rd1];", 1, 64)
    assert kinds(findings) == {("read after atomic, across warps", Severity.ATOMIC)}


@pytest.mark.parametrize(
    "instruction", ["atom.global.cas.b32 %r2, [%rd1], %r1, 7;", "atom.global.exch.b32 %r2, [%rd1], %r1;"]
)
def test_swaps_return_what_was_there(instruction):
    values, _, _ = run(f"mov.u32 %r1, %tid.x;\n{instruction}\n{STORE_INDEX.replace('], %r1', '+4], %r2')}", WARP + 1)
    if "cas" in instruction:  # only thread 0 finds its number, zero
        assert values.tolist() == [7, 0, *[7] * (WARP - 1)]
    else:
        assert values.tolist() == [WARP - 1, 0, *range(WARP - 1)]


def start(parts: Sequence[str]) -> subprocess.Popen:
    """Start the emulator; it needs a process in which Triton does not interpret."""
    command = [sys.executable, str(Path(__file__).parent), *parts]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """What the quick parts print, run side by side."""
    pytest.importorskip("triton", reason="the emulator runs what triton compiles")
    processes = [start(["quick_clustering"]), start(["quick_images"])]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    failed = [output for process, output in zip(processes, outputs, strict=True) if process.returncode not in (0, 1)]
    assert not failed, failed[0]
    return "\n".join(outputs).splitlines()


@pytest.mark.parametrize(
    ("family", "num_cases"),
    [("full", 3), ("pixel", 2), ("components", 1), ("absorb", 1), ("crops", 2), ("spectral", 1), ("example", 1)],
)
def test_kernels_agree_and_have_no_races(family, num_cases, lines):
    passed = [line for line in lines if line.startswith(f"ok   {family} ")]
    failed = [line for line in lines if line.startswith(f"FAIL {family} ")]
    assert not failed, "\n".join(failed)
    assert len(passed) == num_cases, "\n".join(lines)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("no barrier", "read after write, across warps"),
        ("mask off by one", "global access out of bounds"),
        ("unwritten element", "read of never-written memory"),
    ],
)
def test_faults_of_an_example_are_reported(fault, kind, lines):
    assert any(line.startswith(f"ok   control example with {fault}: reported: {kind}") for line in lines), "\n".join(
        lines
    )


def test_a_missing_barrier_of_a_kernel_is_reported(lines):
    """The first barrier of the components' kernel, taken out in a copy."""
    found = [line for line in lines if line.startswith("ok   control components/") and "without the barrier" in line]
    assert len(found) == 1, "\n".join(lines)
    assert " race: read after write, across warps" in found[0]
