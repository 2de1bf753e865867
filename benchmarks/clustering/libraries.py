"""What SciPy, fastcluster and scikit-learn do with one image, and the processes that do it on all cores.

Nothing here imports torch: the processes would hold a copy each.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from math import isqrt
from multiprocessing.pool import Pool
from multiprocessing.synchronize import Barrier
from typing import Any

import numpy as np
from scipy import sparse
from scipy.cluster.hierarchy import fcluster, linkage

CLUSTERS = 8  # that a cut leaves
START_SECONDS = 120


def scipy_full(points: np.ndarray) -> np.ndarray:
    return linkage(points, "ward")


def fastcluster_full(points: np.ndarray) -> np.ndarray:
    """Its variant for points, which takes half the time of `fastcluster.linkage` on 64x64 and keeps no distances."""
    import fastcluster

    return fastcluster.linkage_vector(points, "ward")


def sklearn_pixel(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.cluster import ward_tree

    children, _, _, _, distances = ward_tree(
        points, connectivity=four_neighbors(isqrt(len(points))), return_distance=True
    )
    return children, distances


def scipy_cut(tree: np.ndarray) -> np.ndarray:
    return fcluster(tree, CLUSTERS, "maxclust")


LIBRARY_CALLS: dict[tuple[str, str], Callable[[np.ndarray], Any]] = {
    ("scipy", "full"): scipy_full,
    ("fastcluster", "full"): fastcluster_full,
    ("sklearn", "pixel"): sklearn_pixel,
    ("scipy", "cut"): scipy_cut,
}


@cache
def four_neighbors(side: int) -> sparse.csr_matrix:
    """Adjacency `[P, P]` of the pixels of a square grid that touch by a side."""
    line = sparse.diags_array([1.0, 1.0], offsets=[-1, 1], shape=(side, side))
    return sparse.csr_matrix(sparse.kron(line, sparse.eye_array(side)) + sparse.kron(sparse.eye_array(side), line))


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def worker_processes() -> Iterator[Pool]:
    """A process a core, each with its libraries imported. They are spawned: a fork would copy torch's threads."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(cores() + 1)
    with context.Pool(cores(), import_libraries, (ready,)) as pool:
        ready.wait(START_SECONDS)
        yield pool


def import_libraries(ready: Barrier) -> None:
    corners = np.eye(4)
    for library, operation in LIBRARY_CALLS:
        if operation != "cut" and find_spec(library):
            LIBRARY_CALLS[library, operation](corners)
    ready.wait(START_SECONDS)
