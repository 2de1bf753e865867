"""Invalid linkage matrices, clusterings and arguments raise the exceptions that SciPy raises."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from scipy.cluster import hierarchy as scipy_hierarchy

from dendrograms import broken
from ovsr_gpu import hierarchy


@pytest.mark.parametrize(
    "Z",
    [
        broken(),
        broken((2, 0, -2)),
        broken((2, 1, -2)),
        broken((2, 2, -0.5)),
        broken((2, 3, -1)),
        broken((2, 3, 7)),
        broken((2, 1, 8)),
        broken((4, 1, 0), (4, 0, 0)),
        broken((1, 2, -0.5), (3, 3, 7)),
        broken()[:0],
        broken()[:, :3],
        broken()[0],
        broken().astype(int),
        np.array([[0, 1, -0.3, 4]]),
    ],
)
def test_is_valid_linkage_equals_scipy(Z):
    assert hierarchy.is_valid_linkage(Z) is scipy_hierarchy.is_valid_linkage(Z)
    assert warnings_of(hierarchy, Z) == warnings_of(scipy_hierarchy, Z)
    assert error_type(hierarchy, "is_valid_linkage", Z, throw=True) is error_type(
        scipy_hierarchy, "is_valid_linkage", Z, throw=True
    )


def warnings_of(module, Z: np.ndarray) -> int:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module.is_valid_linkage(Z, warning=True)
    assert all(warning.category is module.ClusterWarning for warning in caught)
    return len(caught)


def error_type(module, name: str, *args, **options) -> type[Exception] | None:
    try:
        getattr(module, name)(*args, **options)
    except (TypeError, ValueError) as error:
        return type(error)
    return None


Z_6 = broken()


@pytest.mark.parametrize(
    ("name", "args", "options"),
    [
        ("linkage", (3.0,), {}),
        ("linkage", (np.zeros(0),), {}),
        ("linkage", (np.zeros(4),), {}),
        ("linkage", (np.zeros((1, 3)),), {}),
        ("linkage", ([np.nan, 0.0, 0.0],), {}),
        ("linkage", ([np.inf, 0.0, 0.0],), {}),
        ("linkage", ([[0.0, np.nan], [1.0, 2.0], [3.0, 4.0]],), {}),
        ("linkage", ([[0.0, 1e200], [1.0, 2.0], [3.0, 4.0]],), {"method": "ward"}),
        ("linkage", ([[0.0, 0.0], [1.0, 2.0], [3.0, 4.0]],), {"metric": "cosine"}),
        ("linkage", (np.eye(3, 2),), {"method": "nearest"}),
        ("linkage", (np.eye(3, 2),), {"metric": "nearest"}),
        ("linkage", (np.eye(3, 2),), {"metric": 2}),
        ("linkage", (np.eye(3, 2),), {"method": "ward", "metric": "cityblock"}),
        ("fclusterdata", (np.zeros(3), 1), {}),
        ("fclusterdata", (np.zeros((3, 2)), 1), {"method": "nearest"}),
        ("fcluster", (Z_6, 1, "nearest"), {}),
        ("fcluster", (Z_6, 1, "monocrit"), {}),
        ("fcluster", (Z_6, 1), {"R": np.zeros((5, 3))}),
        ("fcluster", (Z_6, 1), {"R": -np.ones((5, 4))}),
        ("fcluster", (Z_6, 1), {"depth": 1.5}),
        ("fcluster", (Z_6[:0], 1), {}),
        ("cut_tree", (Z_6, 2, 1.0), {}),
        ("cut_tree", (broken((2, 3, 6)), 2), {}),
        ("leaders", (Z_6, np.ones(6, np.int64)), {}),
        ("leaders", (Z_6, np.ones(5, np.int32)), {}),
        ("cophenet", (Z_6, np.ones(6)), {}),
        ("cophenet", (broken((2, 1, 8)),), {}),
        ("inconsistent", (Z_6, 1.5), {}),
        ("inconsistent", (Z_6, -1), {}),
        ("maxdists", (Z_6[:, :3],), {}),
        ("is_monotonic", (Z_6.astype(int),), {}),
        ("num_obs_linkage", (Z_6[:0],), {}),
    ],
)
def test_invalid_arguments_raise_the_same_as_scipy(name, args, options):
    with np.errstate(all="ignore"):
        expected = error_type(scipy_hierarchy, name, *args, **options)
    assert expected is not None
    assert error_type(hierarchy, name, *args, **options) is expected


@pytest.mark.parametrize(
    ("name", "args", "options", "message"),
    [
        ("linkage", (np.eye(3, 2), "centroid"), {}, "one of .*ward.*centroid and median linkage"),
        ("linkage", (np.eye(3, 2),), {"optimal_ordering": True}, "optimal_ordering=False"),
        ("linkage", (np.eye(3, 2),), {"metric": "jaccard"}, "one of euclidean, .*function .*condensed distances"),
        ("linkage", ([[0.0, np.nan], [1.0, 2.0]],), {"metric": "chebyshev"}, "must be finite"),
        ("linkage", (np.eye(3, 2),), {"dtype": "float16"}, "float64, float32; got 'float16'"),
        ("linkage", ([1e200, 1e200, 1e200], "ward"), {}, "squares overflow"),
        ("fcluster", (Z_6, 0, "maxclust"), {}, "at least 1 cluster"),
        ("fcluster", (Z_6, 1), {"R": np.zeros((4, 4))}, r"R must have shape \[5, 4\] .* got \[4, 4\]"),
        ("fcluster", (Z_6, 1, "monocrit"), {"monocrit": [1, 2, 3]}, r"monocrit must have shape \[5\]"),
        ("fcluster", (broken((2, 2, np.nan)), 1, "distance"), {}, "must not be NaN"),
        ("cut_tree", (Z_6, [[1, 2]]), {}, "a number or a vector"),
        ("leaders", (Z_6[None], np.ones((1, 6), np.int32)), {}, "one linkage matrix .* at a time"),
        ("maxdists", ([[5, 7, 0.3, 2]],), {}, "before it is formed"),
    ],
)
def test_invalid_arguments_with_own_messages(name, args, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(hierarchy, name)(*args, **options)


def test_imports_neither_scipy_nor_scikit_learn_nor_cupy():
    program = """
import sys
from ovsr_gpu.hierarchy import fclusterdata
print(fclusterdata([[0.0], [1.0], [9.0]], 2, "maxclust", method="ward"))
print({"scipy", "sklearn", "cupy"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[1 1 2]\nset()\n"
