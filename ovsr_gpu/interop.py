"""One image of a prediction, handed over in the forms of other packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ovsr_gpu.run_lengths import Masks
from ovsr_gpu.vocabulary import SOMETHING_ELSE

if TYPE_CHECKING:
    import supervision

    from ovsr_gpu.results import LabelledRegions, Prediction


def to_supervision(prediction: Prediction, index: int) -> supervision.Detections:
    """The n regions of image `index`, in the order of their numbers, as supervision's Detections.

    xyxy: `[n, 4]` float32, x1 and y1 exclusive. mask: `[n, H, W]` bool. confidence: `[n]` float32.
    class_id: `[n]` int64, L for "something else". data["class_name"]: `[n]` str.

    Raises ImportError where supervision is not installed, IndexError where the batch has no such image.
    """
    try:
        from supervision import Detections
    except ImportError as error:
        raise ImportError("to_supervision needs the package supervision: pip install supervision") from error
    regions, masks = _image(prediction, index)
    return Detections(
        xyxy=regions.boxes.numpy().astype(np.float32),
        mask=masks,
        confidence=regions.score.numpy(),
        class_id=regions.class_index.numpy(),
        data={"class_name": np.array(_names(prediction, regions), dtype=np.str_)},
    )


def to_coco(prediction: Prediction, index: int, image_id: int) -> list[dict[str, Any]]:
    """The regions of image `index`, in the order of their numbers, as COCO annotations.

    They have image_id, category_id (from 1 on; L + 1 for "something else"), segmentation (compressed run lengths), bbox
    (x, y, width, height), area, iscrowd and score: all but the id, which numbers the annotations of all images.

    Raises IndexError where the batch has no such image.
    """
    regions, region_map = _regions(prediction, index)
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
        for region, counts in enumerate(Masks([region_map], regions).encode().read())
    ]


def coco_annotation(image: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """The annotation of a region, but for its number."""
    x0, y0, x1, y1 = row["box"]
    return {
        "image_id": image,
        "category_id": row["class_index"] + 1,
        "segmentation": {"size": [row["height"], row["width"]], "counts": row["rle"]},
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": row["area"],
        "iscrowd": 0,
        "score": round(row["score"], 6),
    }


def to_transformers(prediction: Prediction, index: int) -> list[dict[str, Any]]:
    """The regions of image `index`, in the order of their numbers, as transformers' image segmentation gives them.

    Each has its score, its label and its mask, an image of mode "L" that is 255 inside of the region and 0 outside.

    Raises IndexError where the batch has no such image.
    """
    regions, masks = _image(prediction, index)
    return [
        {"score": score, "label": label, "mask": Image.fromarray(inside.astype(np.uint8) * 255)}
        for score, label, inside in zip(regions.score.tolist(), _names(prediction, regions), masks, strict=True)
    ]


def _regions(prediction: Prediction, index: int) -> tuple[LabelledRegions, Tensor]:
    """The n regions of one image on the host, now of image 0, and its region map `[H, W]` int32."""
    if not 0 <= index < len(prediction.region_map):
        raise IndexError(f"there is no image {index} in a batch of {len(prediction.region_map)}")
    regions = prediction.regions
    own = (regions.image_index == index) & (regions.areas > 0)
    regions = regions.each(lambda column: column[own].cpu())
    return replace(regions, image_index=torch.zeros_like(regions.image_index)), prediction.region_map[index].cpu()


def _image(prediction: Prediction, index: int) -> tuple[LabelledRegions, np.ndarray[Any, Any]]:
    """The n regions of one image on the host, and their masks `[n, H, W]` bool."""
    regions, region_map = _regions(prediction, index)
    return regions, (region_map == torch.arange(len(regions))[:, None, None]).numpy()


def _names(prediction: Prediction, regions: LabelledRegions) -> list[str]:
    names = [*prediction.classes, SOMETHING_ELSE]
    return [names[index] for index in regions.class_index.tolist()]
