"""scikit-learn's own tests of agglomerative clustering, run against this package's class and functions."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

pytest.importorskip("sklearn", minversion="1.9", reason="the number of tests is that of scikit-learn 1.9")

REPLACEMENT_PLUGIN = """
import sklearn.cluster
from sklearn.cluster import _agglomerative

from ovsr_gpu import cluster

for module in (sklearn.cluster, _agglomerative):
    for name in cluster.__all__:
        setattr(module, name, getattr(cluster, name))
_agglomerative._TREE_BUILDERS["ward"] = cluster.ward_tree  # the other builders look up linkage_tree at each call


def pytest_collection_modifyitems(items):
    for item in items:
        for name in cluster.__all__:
            assert getattr(item.module, name) is getattr(cluster, name)
"""

EXCLUDED = {
    "FeatureAgglomeration": "a class that is not supported",
    "test_ward_agglomeration": "FeatureAgglomeration is not supported",
    "test_mst_linkage_core_memory_mapped": "a private Cython function",
    "test_int_float_dict": "a private Cython class",
    "test_affinity_passed_to_fix_connectivity": "counts calls of the metric: one per edge here, two in scikit-learn",
}
PASSED = 56


def test_scikit_learn_tests_pass(tmp_path):
    (tmp_path / "replacement.py").write_text(REPLACEMENT_PLUGIN)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = no_check_spmatrix: scikit-learn's own\n")
    suite = ["-p", "replacement", "--pyargs", "sklearn.cluster.tests.test_hierarchical"]
    seeds = {"SKLEARN_SEED": "0", "SKLEARN_TESTS_GLOBAL_RANDOM_SEED": "42"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *suite, "-k", f"not ({' or '.join(EXCLUDED)})"],
        cwd=tmp_path,
        env={**os.environ, **seeds},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= PASSED
