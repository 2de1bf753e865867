"""Describe this machine: package versions, devices, backends and cached weights."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch

from ovsr_gpu import __version__

WEIGHT_SUFFIXES = {".pth", ".pt", ".safetensors", ".bin"}


def versions() -> dict[str, str]:
    """Return the versions of this package and of the packages that its results depend on."""
    found = {"ovsr-gpu": __version__, "python": platform.python_version()}
    for name in ("torch", "torchvision", "open_clip_torch", "triton", "cupy-cuda13x", "numpy", "pillow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def describe_device(device: torch.device) -> str:
    """Return the name of a GPU, or the number of threads on the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} threads" if device.type == "cpu" else "Apple GPU"


def devices() -> list[tuple[str, str]]:
    """Return each available device with its description."""
    names = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    names += ["mps"] * torch.backends.mps.is_available()
    return [(name, describe_device(torch.device(name))) for name in names]


def backends() -> list[tuple[str, str]]:
    """Return each backend with "can run", or with the reason why it cannot."""
    if torch.cuda.is_available():
        no_cuda = ""
    elif torch.version.cuda is None and torch.version.hip is None:
        no_cuda = "this build of torch has no CUDA support"
    else:
        no_cuda = "torch finds no CUDA device or driver"
    mps = torch.backends.mps
    no_mps = "no Apple GPU" if mps.is_built() else "this build of torch has no MPS support"
    obstacles = {
        "torch cpu": "",
        "torch cuda": no_cuda,
        "torch mps": "" if mps.is_available() else no_mps,
        "triton kernels": no_cuda if find_spec("triton") else "triton is not installed",
        "cupy arrays": no_cuda if find_spec("cupy") else "cupy is not installed (pip install 'ovsr-gpu[cuda]')",
    }
    return [(name, f"cannot run: {obstacle}" if obstacle else "can run") for name, obstacle in obstacles.items()]


def cached_weights() -> list[tuple[str, str]]:
    """Return the weight files in the caches of torch hub and Hugging Face, with their size and folder."""
    from huggingface_hub import constants

    hub = Path(torch.hub.get_dir(), "checkpoints").glob("*")
    hugging_face = Path(constants.HF_HUB_CACHE).glob("models--*/snapshots/*/*")
    files = [file for file in [*sorted(hub), *sorted(hugging_face)] if file.suffix in WEIGHT_SUFFIXES]
    return [(file.name, f"{file.stat().st_size / 1e6:.1f} MB in {file.parent}") for file in files]
