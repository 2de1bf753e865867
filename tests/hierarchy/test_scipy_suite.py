"""SciPy's own tests of hierarchical clustering, run against this package's functions."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import scipy

REPLACEMENT_PLUGIN = """
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

EXCLUDED = {
    "centroid": "a method that is not supported",
    "median": "a method that is not supported",
    "test_linkage_X": "also tests centroid and median linkage",
    "test_compare_with_trivial": "also tests centroid and median linkage",
    "(TestLinkage and test_optimal_leaf_ordering)": "optimal_ordering=True is not supported",
    "TestIsIsomorphic": "a function that is not supported",
    "TestMLabLinkageConversion": "functions that are not supported",
    "test_Heap": "a private Cython class",
    "label_size or dendrogram_plot or truncate_mode": "plots, which are not supported and need Matplotlib",
}
PASSED = {"numpy": 123, "torch": 122}  # SciPy tests cut_tree with NumPy only


@pytest.mark.skipif(not scipy.__version__.startswith("1.17."), reason="the number of tests is that of SciPy 1.17")
@pytest.mark.parametrize("backend", PASSED)
def test_scipy_tests_pass(backend, tmp_path):
    (tmp_path / "replacement.py").write_text(REPLACEMENT_PLUGIN)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = array_api_backends: SciPy's own\n")
    suite = ["-p", "replacement", "--pyargs", "scipy.cluster.tests.test_hierarchy"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *suite, "-k", f"not ({' or '.join(EXCLUDED)})"],
        cwd=tmp_path,
        env={**os.environ, "SCIPY_ARRAY_API": f'["{backend}"]'},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) == PASSED[backend]
