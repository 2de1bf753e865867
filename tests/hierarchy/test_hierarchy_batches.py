"""Batches are their images, and every kind of array gives what NumPy's give."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.cluster import hierarchy as scipy_hierarchy
from scipy.spatial.distance import pdist

from dendrograms import assert_same, assert_same_linkage, observations, random_linkage
from ovsr_gpu import hierarchy


class LikeCuPy:
    """An array of another library, this module: it can do no more than DLPack."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __dlpack__(self, **options):
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()


from_dlpack = LikeCuPy


class OfTheStandard(LikeCuPy):
    """One that names its namespace, as the array API standard asks."""

    def __array_namespace__(self):
        return SimpleNamespace(from_dlpack=OfTheStandard)


def pieces(result) -> list:
    return list(result) if isinstance(result, tuple) else [result]


CALLS = {
    "linkage": lambda X, Z, y: hierarchy.linkage(X, "ward"),
    "linkage of distances": lambda X, Z, y: hierarchy.linkage(y, "average", condensed=True),
    "linkage of a metric": lambda X, Z, y: hierarchy.linkage(X, "complete", "cosine"),
    **{name: lambda X, Z, y, name=name: hierarchy.fcluster(Z, 0.8, name) for name in ("inconsistent", "distance")},
    "maxclust": lambda X, Z, y: hierarchy.fcluster(Z, 5, "maxclust"),
    "all apart": lambda X, Z, y: hierarchy.fcluster(Z, 99, "maxclust"),
    "monocrit": lambda X, Z, y: hierarchy.fcluster(Z, 4, "maxclust_monocrit", monocrit=hierarchy.maxdists(Z)),
    "given R": lambda X, Z, y: hierarchy.fcluster(Z, 0.8, R=hierarchy.inconsistent(Z, 3)),
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
    """Observations `[2, 3, 20, 4]`, their linkage matrices (the last one out of order) and condensed distances."""
    X = observations(20, seed=10, images=(2, 3))
    Z = np.array([[scipy_hierarchy.linkage(image, "ward") for image in row] for row in X])
    Z[1, 2] = random_linkage(20, 0, None, monotonic=True)
    return [X, Z, np.array([[pdist(image) for image in row] for row in X])]


@each_call
def test_a_batch_is_its_images(call):
    X, Z, y = batch()
    together = pieces(call(X, Z, y))
    for place in np.ndindex(2, 3):
        for all_images, one in zip(together, pieces(call(X[place], Z[place], y[place])), strict=True):
            np.testing.assert_array_equal(all_images[place], one)


@each_call
@pytest.mark.parametrize("kind", [torch.Tensor.clone, LikeCuPy, OfTheStandard])
def test_kinds_of_arrays(call, kind):
    arrays = batch()
    given = [kind(torch.tensor(array)) for array in arrays]
    for found, expected in zip(pieces(call(*given)), pieces(call(*arrays)), strict=True):
        assert type(found) is type(given[0])
        assert_same(torch.from_dlpack(found).numpy()[()], expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
@each_call
def test_cuda(call):
    arrays = batch()
    for found, expected in zip(
        pieces(call(*(torch.tensor(array, device="cuda") for array in arrays))), pieces(call(*arrays)), strict=True
    ):
        assert found.is_cuda
        np.testing.assert_allclose(found.cpu().numpy(), expected, rtol=1e-12)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
def test_numpy_computed_on_cuda():
    X = observations(50, seed=13)
    assert_same_linkage(hierarchy.linkage(X, "ward", device="cuda"), scipy_hierarchy.linkage(X, "ward"))
    assert_same(hierarchy.fclusterdata(X, 1.1, device="cuda"), scipy_hierarchy.fclusterdata(X, 1.1))
