"""The type of the arrays that pass between the steps."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic] | npt.NDArray[Any]
