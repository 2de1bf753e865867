"""A reference implementation with NumPy, SciPy, scikit-learn and Pillow, one image at a time; networks run in torch.

It shares only the configuration and the loaded networks with the package, not its stages and kernels. The benchmarks
compare with it, and the tests use it as the expected result.
"""

from reference.pipeline import ReferencePipeline, ReferenceResult

__all__ = ["ReferencePipeline", "ReferenceResult"]
