"""SciPy's own tests of hierarchical clustering, run against this package's functions."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import scipy

PUT_IN_PLACE = """
from functools import partial

from ovsr_gpu import hierarchy

REPLACED = {name: getattr(hierarchy, name) for name in hierarchy.__all__}
REPLACED |= {method: partial(hierarchy.linkage, method=method) for method in ("single", "ward")}


def pytest_collection_modifyitems(items):
    (suite,) = {item.module for item in items}
    for name, function in REPLACED.items():
        assert hasattr(suite, name)
        setattr(suite, name, function)
    suite.eager.is_valid_linkage = hierarchy.is_valid_linkage
"""

LEFT_OUT = {
    "centroid": "a method that is not offered",
    "median": "a method that is not offered",
    "test_linkage_X": "goes through centroid and median linkage, too",
    "test_compare_with_trivial": "goes through centroid and median linkage, too",
    "(TestLinkage and test_optimal_leaf_ordering)": "optimal_ordering=True is not offered",
    "TestIsIsomorphic": "a function that is not offered",
    "TestMLabLinkageConversion": "functions that are not offered",
    "test_Heap": "a private Cython class",
    "label_size or dendrogram_plot or truncate_mode": "plots, which are not offered and need Matplotlib",
}
PASSED = {"numpy": 123, "torch": 122}  # SciPy keeps its test of cut_tree to NumPy


@pytest.mark.skipif(not scipy.__version__.startswith("1.17."), reason="the tests counted here are those of SciPy 1.17")
@pytest.mark.parametrize("backend", PASSED)
def test_scipys_own_tests(backend, tmp_path):
    (tmp_path / "put_in_place.py").write_text(PUT_IN_PLACE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = array_api_backends: SciPy's own\n")
    suite = ["-p", "put_in_place", "--pyargs", "scipy.cluster.tests.test_hierarchy"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *suite, "-k", f"not ({' or '.join(LEFT_OUT)})"],
        cwd=tmp_path,
        env={**os.environ, "SCIPY_ARRAY_API": f'["{backend}"]'},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) == PASSED[backend]
