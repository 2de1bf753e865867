"""The type of the arrays that the steps exchange."""

from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
