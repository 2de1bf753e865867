"""`ovsr info`: show what is installed on this machine."""

from __future__ import annotations

from ovsr_gpu.commands.common import exit_on_error
from ovsr_gpu.commands.console import console, print_section


def info() -> None:
    """Show versions, devices, backends and cached weights."""
    with exit_on_error():
        from ovsr_gpu.runtime.environment import backends, cached_weights, devices, versions

        page = console()
        print_section(page, "Versions", list(versions().items()))
        print_section(page, "Devices", devices())
        print_section(page, "Backends", backends())
        page.print(
            "  Where the Triton kernels can run, they compute clustering, latents, components and crops; "
            "torch computes the rest.\n"
        )
        print_section(page, "Cached weights", cached_weights() or [("none", "weights are downloaded on first use")])
