"""Compile every Triton kernel for a GPU that need not be present, and print its resources: one JSON line per kernel.

python tests/kernels/compile_ahead.py 80 90 100
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from ovsr_gpu.kernels.components import components_triton
from ovsr_gpu.kernels.crop_resize import crops_triton
from ovsr_gpu.kernels.linkage import full_graph_triton, pixel_graph_triton, single_triton
from ovsr_gpu.kernels.spectral import spectral_triton

INTEGERS = {"order", "live", "near", "cluster", "role", "stale", "first", "second", "u_of", "v_of", "moved", "alive"}
INTEGERS |= {"pair_of", "into"}
INTEGERS |= {"own", "area", "border", "lowest", "weights", "region_map"}
LONG = {"labels", "children", "sizes", "wanted", "ends", "near_ids", "starts", "tail", "edges"}
LONG |= {"ranks", "counts", "image_index", "boxes", "resized", "offset", "spans"}
DOUBLES = {"gram", "factor", "floors", "rows"}
BYTES = {"images", "halfway"}
SCALARS = {"P", "R", "E", "H", "least", "n", "width"}
SCALARS |= {"PIXELS", "W", "PLANE", "TABLE", "S", "N_STRIDE", "C_STRIDE", "Y_STRIDE", "X_STRIDE"}
FULL = full_graph_triton.TUNING
PIXEL = pixel_graph_triton.TUNING
TILE = {"TILE": full_graph_triton.TILE, "enable_fp_fusion": False}
SPECTRAL = spectral_triton.TUNING
CROPS = {"SUPPORT": 2, **crops_triton.PASS_TUNING}
PLAIN = {"FILL": 0.0, "region_map": None, "spans": None, "COLOUR": None, "MEAN": None, "STD": None}
FINISHED = {"FILL": 0.0, "COLOUR": (122.7, 116.7, 104.0), "MEAN": (0.481, 0.458, 0.408), "STD": (0.269, 0.261, 0.276)}

KERNELS = [
    *((crops_triton.line_weights, {"SUPPORT": support, **crops_triton.WEIGHTS_TUNING}) for support in (1, 2)),
    (crops_triton.first_pass, CROPS),
    *((crops_triton.second_pass, {**finish, **CROPS}) for finish in (PLAIN, FINISHED)),
    (components_triton.find_components, components_triton.TUNING),
    (components_triton.absorb_components, components_triton.TUNING),
    (spectral_triton.factorise, {"ROWS": 8, "WIDTH": 256, **SPECTRAL}),
    *((spectral_triton.orthogonalise, {"PAIRS": 2048 // width, "WIDTH": width, **SPECTRAL}) for width in (256, 1024)),
    *((full_graph_triton.point_distances, {"SQUARED": squared, **TILE}) for squared in (True, False)),
    (full_graph_triton.first_neighbours, FULL),
    *(
        (full_graph_triton.grow_trees, {"METHOD": method, "BLOCK": full_graph_triton.BLOCK, **FULL})
        for method in ("ward", "complete", "average", "weighted")
    ),
    (single_triton.spanning_tree, single_triton.TUNING),
    (single_triton.join_ends, single_triton.TUNING),
    *(
        (pixel_graph_triton.grow_trees, {"METHOD": method, **PIXEL})
        for method in ("ward", "complete", "average", "single")
    ),
]


def pointer_type(name: str, dtype: str) -> str:
    if name in SCALARS:
        return "i32"
    if name == "mask":
        return "*i8"
    if name in DOUBLES:
        return "*fp64"
    if name in BYTES:
        return "*u8"
    if name == "crops":
        return "*fp32" if dtype == "fp32" else "*fp16"
    if name == "near_bits":
        return "*i32" if dtype == "fp32" else "*i64"
    return "*i32" if name in INTEGERS else "*i64" if name in LONG else f"*{dtype}"


def resources(cubin: bytes) -> dict[str, int]:
    """Return registers, stack and spill bytes, read from the code by the disassembler in Triton's wheel."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        report = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", report)
    assert found, report
    return dict(zip(("registers", "stack", "shared", "local"), map(int, found.groups()), strict=True))


def compile_ahead(kernel, settings: dict, dtype: str, capability: int) -> dict:
    constants = {name: value for name, value in settings.items() if name in kernel.arg_names}
    options = {name: value for name, value in settings.items() if name not in kernel.arg_names}
    signature = {name: "constexpr" if name in constants else pointer_type(name, dtype) for name in kernel.arg_names}
    source = ASTSource(kernel, signature, {(kernel.arg_names.index(name),): value for name, value in constants.items()})
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    return {
        "kernel": f"{kernel.fn.__module__.rsplit('.', 1)[-1]}.{kernel.fn.__name__}",
        "variant": constants.get("METHOD", ""),
        "dtype": dtype,
        "capability": capability,
        **resources(compiled.asm["cubin"]),
    }


if __name__ == "__main__":
    for capability in map(int, sys.argv[1:] or ["90"]):
        for kernel, settings in KERNELS:
            for dtype in ("fp32", "fp64"):
                print(json.dumps(compile_ahead(kernel, settings, dtype, capability)), flush=True)
