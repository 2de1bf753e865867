"""In a checkout: the kernels, which lie in the folder `kernels` beside `ovsr_gpu`.

An installation has that folder in the place of this file.
"""

from pathlib import Path

__path__ = [str(Path(__file__).resolve().parents[2] / "kernels")]
