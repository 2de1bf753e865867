"""The torch backend of the kernels, used on CUDA instead of Triton."""

from __future__ import annotations

from contextlib import AbstractContextManager
from unittest.mock import patch

import ovsr_gpu.kernels.backend


def use_torch_backend() -> AbstractContextManager[object]:
    """Return a context in which backend "auto" selects as on a CUDA device without Triton."""
    return patch.object(ovsr_gpu.kernels.backend, "find_spec", return_value=None)
