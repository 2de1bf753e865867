"""The method as NumPy, SciPy, scikit-learn and Pillow do it, one image at a time, networks through torch.

Written apart from the package's stages and kernels: they share the configuration and the loaded networks, nothing else.
It is what the benchmarks compare with and what the tests take for the truth.
"""

from reference.pipeline import ReferencePipeline, ReferenceResult

__all__ = ["ReferencePipeline", "ReferenceResult"]
