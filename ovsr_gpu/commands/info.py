"""`ovsr info`: what this machine has."""

from __future__ import annotations

from ovsr_gpu.commands.common import plain_errors
from ovsr_gpu.commands.console import console, print_section


def info() -> None:
    """Show versions, devices, backends and cached weights."""
    with plain_errors():
        from ovsr_gpu.runtime.environment import backends, cached_weights, devices, versions

        page = console()
        print_section(page, "Versions", list(versions().items()))
        print_section(page, "Devices", devices())
        print_section(page, "Backends", backends())
        page.print("  Where the Triton kernels can run they do the clustering; all else runs on torch.\n")
        print_section(page, "Cached weights", cached_weights() or [("none", "they are downloaded on first use")])
