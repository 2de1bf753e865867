"""Scores of segmentation and recognition against ground truth, counted on the device that the tensors lie on.

| accumulator | what it judges |
|---|---|
| `PixelConfusion` | the class of each pixel: IoU, mIoU, accuracy, precision, recall, F1 |
| `ImageHungarian` | the regions of each image, whatever they are called |
| `DatasetHungarian` | clusters that mean the same in all images, whatever they are called |
| `RegionMatches` | whole segments with their class: precision, recall, F1, panoptic quality |
| `OpenSet` | "something else" against classes kept out of the vocabulary: AUROC, F1 |
| `BoundaryScore` | where the outlines of each class lie |
| `Calibration` | whether regions are right as often as their confidence says |

Each has `update`, once an image or batch, and `result`, a frozen dataclass of floats, lists and None, ready for JSON.
L classes have the indices 0 to L - 1, L is "something else"; a true label of -1 is void. Shares lie in [0, 1].
"""

from ovsr_gpu.evaluation.boundaries import BoundaryScore, BoundaryScores
from ovsr_gpu.evaluation.calibration import Calibration, CalibrationScores
from ovsr_gpu.evaluation.hungarian import (
    DatasetHungarian,
    DatasetHungarianScores,
    ImageHungarian,
    ImageHungarianScores,
)
from ovsr_gpu.evaluation.open_set import OpenSet, OpenSetScores
from ovsr_gpu.evaluation.pixels import PixelConfusion, PixelScores
from ovsr_gpu.evaluation.segment_scores import RegionMatches, RegionScores

__all__ = [
    "BoundaryScore",
    "BoundaryScores",
    "Calibration",
    "CalibrationScores",
    "DatasetHungarian",
    "DatasetHungarianScores",
    "ImageHungarian",
    "ImageHungarianScores",
    "OpenSet",
    "OpenSetScores",
    "PixelConfusion",
    "PixelScores",
    "RegionMatches",
    "RegionScores",
]
