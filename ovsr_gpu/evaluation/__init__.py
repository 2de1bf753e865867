"""Metrics of segmentation and recognition against ground truth, accumulated on the device of the tensors.

| accumulator | what it measures |
|---|---|
| `ConfusionMatrix` | the class of each pixel: IoU, mIoU, accuracy, precision, recall, F1 |
| `ImageHungarian` | the regions of each image, regardless of their class names |
| `DatasetHungarian` | clusters with the same meaning in all images, regardless of their names |
| `PanopticQuality` | whole segments with their class: precision, recall, F1, panoptic quality |
| `OpenSet` | rejection as "something else" of classes that are not in the vocabulary: AUROC, F1 |
| `BoundaryFScore` | the position of the boundaries of each class |
| `Calibration` | how well the confidence of regions matches their accuracy |

As in torchmetrics, each accumulator has `update`, called once per image or batch, and `compute`, which returns a frozen
dataclass of floats, lists and None that can be written as JSON. The L classes have the indices 0 to L - 1; a predicted
L is "something else"; a target of -1 is void (the ignore index). All scores lie in [0, 1].
"""

from ovsr_gpu.evaluation.boundaries import BoundaryFScore, BoundaryScores
from ovsr_gpu.evaluation.calibration import Calibration, CalibrationScores
from ovsr_gpu.evaluation.hungarian import (
    DatasetHungarian,
    DatasetHungarianScores,
    ImageHungarian,
    ImageHungarianScores,
)
from ovsr_gpu.evaluation.open_set import OpenSet, OpenSetScores
from ovsr_gpu.evaluation.pixels import ConfusionMatrix, PixelScores
from ovsr_gpu.evaluation.segment_scores import PanopticQuality, SegmentScores

__all__ = [
    "BoundaryFScore",
    "BoundaryScores",
    "Calibration",
    "CalibrationScores",
    "ConfusionMatrix",
    "DatasetHungarian",
    "DatasetHungarianScores",
    "ImageHungarian",
    "ImageHungarianScores",
    "OpenSet",
    "OpenSetScores",
    "PanopticQuality",
    "PixelScores",
    "SegmentScores",
]
