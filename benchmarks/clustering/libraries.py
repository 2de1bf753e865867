"""Clustering of one image with SciPy, fastcluster and scikit-learn, and a process pool that uses all cores.

This module does not import torch, because every process of the pool would load a copy.
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

CLUSTERS = 8  # number of clusters after a cut
START_SECONDS = 120


def scipy_full(points: np.ndarray) -> np.ndarray:
    return linkage(points, "ward")


def fastcluster_full(points: np.ndarray) -> np.ndarray:
    """Run fastcluster's variant for points, which stores no distances.

    It takes half the time of `fastcluster.linkage` on 64x64.
    """
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
    """Return the adjacency matrix `[P, P]` of the 4-connected pixels of a square grid."""
    line = sparse.diags_array([1.0, 1.0], offsets=[-1, 1], shape=(side, side))
    return sparse.csr_matrix(sparse.kron(line, sparse.eye_array(side)) + sparse.kron(sparse.eye_array(side), line))


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def worker_processes() -> Iterator[Pool]:
    """Yield one process per core, with the libraries imported.

    The processes are spawned, because a fork would copy torch's threads.
    """
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
