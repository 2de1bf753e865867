"""The type of the arrays that pass between the steps."""

from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
