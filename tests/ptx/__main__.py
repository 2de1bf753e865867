"""Run the emulator: `python tests/ptx all` from the project's root."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

if __name__ == "__main__":
    os.environ.pop("TRITON_INTERPRET", None)  # the emulator runs what Triton compiles
    # This folder is the package `ptx`. The kernels are those of the checkout, whatever is installed.
    sys.path[:1] = [str(ROOT / "tests"), str(ROOT / "tests" / "kernels" / "linkage"), str(ROOT)]
    from ptx.command import main

    sys.exit(main())
