"""Conversion of one image of a prediction to the formats of other packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ovsr_gpu.run_lengths import RunLengthEncoder
from ovsr_gpu.vocabulary import SOMETHING_ELSE

if TYPE_CHECKING:
    import supervision

    from ovsr_gpu.results import LabelledRegions, Prediction


def to_supervision(prediction: Prediction, index: int) -> supervision.Detections:
    """Convert the regions of an image to supervision's Detections, in the order of the region map.

    Args:
        prediction: The result for a batch.
        index: Index of the image in the batch.

    Returns:
        Detections with xyxy `[n, 4]` float32 (x1 and y1 exclusive), mask `[n, H, W]` bool, confidence `[n]` float32,
        class_id `[n]` int64 (L for "something else") and data["class_name"] `[n]` str.

    Raises:
        ImportError: The package supervision is not installed.
        IndexError: The batch has no such image.
    """
    try:
        from supervision import Detections
    except ImportError as error:
        raise ImportError("to_supervision needs the package supervision: pip install supervision") from error
    regions, masks = _regions_and_masks(prediction, index)
    return Detections(
        xyxy=regions.boxes.numpy().astype(np.float32),
        mask=masks,
        confidence=regions.score.numpy(),
        class_id=regions.class_index.numpy(),
        data={"class_name": np.array(_class_names(prediction, regions), dtype=np.str_)},
    )


def to_coco(prediction: Prediction, index: int, image_id: int) -> list[dict[str, Any]]:
    """Convert the regions of an image to COCO annotations, in the order of the region map.

    Args:
        prediction: The result for a batch.
        index: Index of the image in the batch.
        image_id: The image_id of the annotations.

    Returns:
        One dict per region with image_id, category_id (from 1; L + 1 for "something else"), segmentation (compressed
        run lengths), bbox (x, y, width, height), area, iscrowd and score. The field id is left to the caller, because
        it must be unique over all images.

    Raises:
        IndexError: The batch has no such image.
    """
    regions, region_map = _regions_and_map(prediction, index)
    height, width = region_map.shape
    return [
        coco_annotation(
            image_id,
            {
                "height": height,
                "width": width,
                "rle": counts,
                "class_index": int(regions.class_index[region]),
                "box": regions.boxes[region].tolist(),
                "area": int(regions.areas[region]),
                "score": float(regions.score[region]),
            },
        )
        for region, counts in enumerate(RunLengthEncoder([region_map], regions).encode().read())
    ]


def coco_annotation(image_id: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the COCO annotation of a region, without the field id.

    Args:
        image_id: The image_id of the annotation.
        row: A row of the store: height, width, rle, class_index, box, area and score.

    Returns:
        The annotation, with the fields listed in `to_coco`.
    """
    x0, y0, x1, y1 = row["box"]
    return {
        "image_id": image_id,
        "category_id": row["class_index"] + 1,
        "segmentation": {"size": [row["height"], row["width"]], "counts": row["rle"]},
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": row["area"],
        "iscrowd": 0,
        "score": round(row["score"], 6),
    }


def to_transformers(prediction: Prediction, index: int) -> list[dict[str, Any]]:
    """Convert the regions of an image to the output of transformers' image segmentation pipeline.

    Args:
        prediction: The result for a batch.
        index: Index of the image in the batch.

    Returns:
        One dict per region, in the order of the region map: score, label, and mask, a PIL image of mode "L" that is 255
        inside the region and 0 outside.

    Raises:
        IndexError: The batch has no such image.
    """
    regions, masks = _regions_and_masks(prediction, index)
    return [
        {"score": score, "label": label, "mask": Image.fromarray(mask.astype(np.uint8) * 255)}
        for score, label, mask in zip(regions.score.tolist(), _class_names(prediction, regions), masks, strict=True)
    ]


def _regions_and_map(prediction: Prediction, index: int) -> tuple[LabelledRegions, Tensor]:
    """Return the n regions of one image on the host, with image index 0, and its region map `[H, W]` int32."""
    if not 0 <= index < len(prediction.region_map):
        raise IndexError(f"there is no image {index} in a batch of {len(prediction.region_map)}")
    regions = prediction.regions
    is_selected = (regions.image_index == index) & (regions.areas > 0)
    regions = regions.map(lambda column: column[is_selected].cpu())
    return replace(regions, image_index=torch.zeros_like(regions.image_index)), prediction.region_map[index].cpu()


def _regions_and_masks(prediction: Prediction, index: int) -> tuple[LabelledRegions, np.ndarray[Any, Any]]:
    """Return the n regions of one image on the host, and their masks `[n, H, W]` bool."""
    regions, region_map = _regions_and_map(prediction, index)
    return regions, (region_map == torch.arange(len(regions))[:, None, None]).numpy()


def _class_names(prediction: Prediction, regions: LabelledRegions) -> list[str]:
    """Return the class name of each region."""
    names = [*prediction.classes, SOMETHING_ELSE]
    return [names[index] for index in regions.class_index.tolist()]
