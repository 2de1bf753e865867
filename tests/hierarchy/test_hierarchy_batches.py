"""A batch gives the results of its images, and every type of array gives the results of NumPy arrays."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.cluster import hierarchy as scipy_hierarchy
from scipy.spatial.distance import pdist

from dendrograms import assert_same, assert_same_linkage, observations, random_linkage
from ovsr_gpu import hierarchy


class LikeCuPy:
    """An array of a library that supports only DLPack; this module is its namespace."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __dlpack__(self, **options):
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()


from_dlpack = LikeCuPy


class WithNamespace(LikeCuPy):
    """An array that names its namespace, as required by the array API standard."""

    def __array_namespace__(self):
        return SimpleNamespace(from_dlpack=WithNamespace)


def as_list(result) -> list:
    return list(result) if isinstance(result, tuple) else [result]


CALLS = {
    "linkage": lambda X, Z, y: hierarchy.linkage(X, "ward"),
    "linkage of distances": lambda X, Z, y: hierarchy.linkage(y, "average", condensed=True),
    "linkage of a metric": lambda X, Z, y: hierarchy.linkage(X, "complete", "cosine"),
    **{name: lambda X, Z, y, name=name: hierarchy.fcluster(Z, 0.8, name) for name in ("inconsistent", "distance")},
    "maxclust": lambda X, Z, y: hierarchy.fcluster(Z, 5, "maxclust"),
    "one cluster per observation": lambda X, Z, y: hierarchy.fcluster(Z, 99, "maxclust"),
    "monocrit": lambda X, Z, y: hierarchy.fcluster(Z, 4, "maxclust_monocrit", monocrit=hierarchy.maxdists(Z)),
    "R of inconsistent": lambda X, Z, y: hierarchy.fcluster(Z, 0.8, R=hierarchy.inconsistent(Z, 3)),
    "fclusterdata": lambda X, Z, y: hierarchy.fclusterdata(X, 1.0),
    "cut_tree": lambda X, Z, y: hierarchy.cut_tree(Z),
    "cut_tree at heights": lambda X, Z, y: hierarchy.cut_tree(Z, height=[3.0, 1.0]),
    "cophenet": lambda X, Z, y: hierarchy.cophenet(Z, y),
    "inconsistent": lambda X, Z, y: hierarchy.inconsistent(Z, 3),
    "maxdists": lambda X, Z, y: hierarchy.maxdists(Z),
    "is_monotonic": lambda X, Z, y: hierarchy.is_monotonic(Z),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())


def batch() -> list[np.ndarray]:
    """Return observations `[2, 3, 20, 4]`, their linkage matrices (the last one unsorted) and condensed distances."""
    X = observations(20, seed=10, images=(2, 3))
    Z = np.array([[scipy_hierarchy.linkage(image, "ward") for image in row] for row in X])
    Z[1, 2] = random_linkage(20, 0, None, monotonic=True)
    return [X, Z, np.array([[pdist(image) for image in row] for row in X])]


@each_call
def test_batch_equals_single_images(call):
    X, Z, y = batch()
    together = as_list(call(X, Z, y))
    for index in np.ndindex(2, 3):
        for all_images, one in zip(together, as_list(call(X[index], Z[index], y[index])), strict=True):
            np.testing.assert_array_equal(all_images[index], one)


@each_call
@pytest.mark.parametrize("array_type", [torch.Tensor.clone, LikeCuPy, WithNamespace])
def test_array_types(call, array_type):
    arrays = batch()
    inputs = [array_type(torch.tensor(array)) for array in arrays]
    for found, expected in zip(as_list(call(*inputs)), as_list(call(*arrays)), strict=True):
        assert type(found) is type(inputs[0])
        assert_same(torch.from_dlpack(found).numpy()[()], expected)


@pytest.mark.gpu
@each_call
def test_cuda_equals_numpy(call):
    arrays = batch()
    for found, expected in zip(
        as_list(call(*(torch.tensor(array, device="cuda") for array in arrays))), as_list(call(*arrays)), strict=True
    ):
        assert found.is_cuda
        np.testing.assert_allclose(found.cpu().numpy(), expected, rtol=1e-12)


@pytest.mark.gpu
def test_numpy_input_computed_on_cuda():
    X = observations(50, seed=13)
    assert_same_linkage(hierarchy.linkage(X, "ward", device="cuda"), scipy_hierarchy.linkage(X, "ward"))
    assert_same(hierarchy.fclusterdata(X, 1.1, device="cuda"), scipy_hierarchy.fclusterdata(X, 1.1))
