"""Where the tests of the kernels run: on a GPU where there is one, else on the CPU."""

import pytest
import torch

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")


def on_gpu(*values):
    """Parameters for a GPU alone, such as sizes that are too slow for Triton's interpreter."""
    marks = [pytest.mark.gpu, pytest.mark.skipif(not GPU, reason="torch finds no CUDA device")]
    return [pytest.param(value, marks=marks) for value in values]
