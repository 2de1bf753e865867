"""The calls that the clustering benchmark times."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from multiprocessing.pool import Pool
from typing import Any

import torch

from clustering.cases import Case
from clustering.libraries import CLUSTERS, LIBRARY_CALLS, cores
from clustering.points import made_points
from ovsr_gpu.kernels.linkage import full_graph_linkage, grid_edges, pixel_graph_linkage
from ovsr_gpu.kernels.trees import MergeTree, cut

OURS = ("heap", "torch", "triton")


def reason_to_skip(case: Case, device: torch.device) -> str | None:
    """Return the reason why a case cannot run here; None if it can."""
    if case.provider == "heap":
        return None if device.type == "cpu" else f"the heap needs the CPU; this run is on {device.type}"
    package = case.provider.partition("_")[0]
    if find_spec(package) is None:
        return f"{package} is not installed"
    if case.provider == "triton" and device.type != "cuda":
        return f"the Triton kernels need a CUDA device; this run is on {device.type}"
    return None


def prepare(case: Case, device: torch.device, pool: Pool | None) -> Callable[[], Any]:
    """Return the call to time, with its input prepared: tensors on the device for the kernels, arrays for libraries.

    Args:
        case: The case.
        device: Device of the kernels.
        pool: The processes of a "..._processes" provider.
    """
    return our_call(case, device) if case.provider in OURS else library_call(case, pool)


def our_call(case: Case, device: torch.device) -> Callable[[], Any]:
    if case.operation == "cut":
        children = one_tree(case).children.expand(case.batch, -1, -1).contiguous().to(device)
        clusters = torch.full((case.batch,), CLUSTERS, device=device)
        return lambda: cut(children, clusters)
    points = made_points(case).to(device, getattr(torch, case.dtype))
    if case.operation == "full":
        return lambda: full_graph_linkage(points, "ward", backend=case.provider)
    edges = grid_edges(case.side, case.side, "4", device)
    return lambda: pixel_graph_linkage(points, edges, "ward", backend=case.provider)


def library_call(case: Case, pool: Pool | None) -> Callable[[], Any]:
    call = LIBRARY_CALLS[case.provider.partition("_")[0], case.operation]
    if case.operation == "cut":
        tree = one_tree(case)
        columns = [tree.children[0].double(), tree.heights[0, :, None], tree.sizes[0, :, None].double()]
        images = [torch.cat(columns, dim=1).numpy()] * case.batch
    else:
        images = list(made_points(case).double().numpy())
    if pool is None:
        return lambda: [call(image) for image in images]
    chunk_size = max(1, len(images) // (4 * cores()))
    return lambda: pool.map(call, images, chunk_size)


def one_tree(case: Case) -> MergeTree:
    """Return Ward's tree of the first image of a case; cuts of a whole batch use copies of it."""
    return full_graph_linkage(made_points(case._replace(batch=1)).double(), "ward", backend="torch")
