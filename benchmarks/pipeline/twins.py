"""The kernels' torch twins in place of Triton's."""

from __future__ import annotations

from contextlib import AbstractContextManager
from unittest.mock import patch

import ovsr_gpu.kernels.backend


def torch_twins() -> AbstractContextManager[object]:
    """As long as this lasts, all kernels choose as they do on a CUDA device where Triton is not installed."""
    return patch.object(ovsr_gpu.kernels.backend, "find_spec", return_value=None)
