"""scikit-learn's agglomerative clustering on this package's kernels, with the same names, parameters and results."""

try:
    from sklearn.utils.validation import validate_data  # noqa: F401
except ImportError as error:
    raise ImportError("ovsr_gpu.cluster needs scikit-learn 1.6 or newer: pip install scikit-learn") from error

from ovsr_gpu.cluster.agglomerative import AgglomerativeClustering
from ovsr_gpu.cluster.builders import linkage_tree, ward_tree

__all__ = ["AgglomerativeClustering", "linkage_tree", "ward_tree"]
