"""The device of the kernel tests: a GPU where there is one, else the CPU."""

import pytest
import torch

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")


def on_gpu(*values):
    """Return parameters that only run on a GPU, such as sizes that are too slow for Triton's interpreter."""
    return [pytest.param(value, marks=pytest.mark.gpu) for value in values]
