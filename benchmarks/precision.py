"""Measure how lower precision in the networks changes the labels of images.

    python benchmarks/precision.py "IMAGES/*.png" --classes "dog; grass" --backbone-weights FILE --clip local-dir:DIR

One network at a time computes in another precision; the rest stays unchanged. Regions: the fraction of pixels in the
same region as with float32, under the one-to-one matching of regions that maximizes it. Classes: the fraction of pixels
with the same class. The script runs on a CPU, where TF32 is emulated: the operands of convolutions and matrix products
are rounded to 10 bits.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import islice

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from ovsr_gpu import Config, Prediction, Segmenter
from ovsr_gpu.sources.files import find_images

Change = Callable[[Segmenter], object]
HALVES = (torch.float16, torch.bfloat16)


def main() -> None:
    options = parse_options()
    paths = [image.path for image in find_images(options.images)]

    def label(change: Change) -> list[Prediction]:
        segmenter = Segmenter.from_pretrained(
            Config(preset=options.preset),
            backbone_weights=options.backbone_weights,
            clip=options.clip,
            clip_weights=options.clip_weights,
            device="cpu",
        )
        change(segmenter)
        remaining = iter(paths)
        batches = iter(lambda: list(islice(remaining, options.batch_size)), [])
        return list(segmenter.stream(batches, options.classes))

    expected = label(lambda segmenter: None)
    print(f"{len(paths)} images, preset {options.preset}: fraction of pixels with the same result as in float32")
    print(f"{'':28}{'regions':>10}{'classes':>10}")
    for name, change in CHANGES.items():
        regions, classes = agreement(expected, label(change))
        print(f"{name:28}{regions:10.2%}{classes:10.2%}", flush=True)


def agreement(expected: Sequence[Prediction], predictions: Sequence[Prediction]) -> tuple[float, float]:
    """Return the fractions of all pixels in the same region and with the same class."""
    pixels = regions = classes = 0
    for before, after in zip(expected, predictions, strict=True):
        for map_before, map_after in zip(before.region_map, after.region_map, strict=True):
            pixels += map_before.numel()
            regions += matched_pixels(map_before, map_after)
        classes += sum(int((a == b).sum()) for a, b in zip(before.class_map, after.class_map, strict=True))
    return regions / pixels, classes / pixels


def matched_pixels(a: Tensor, b: Tensor) -> int:
    """Return the number of pixels in the same region under the best one-to-one assignment of the regions."""
    width = int(b.max()) + 1
    pairs = torch.bincount((a.long() * width + b).flatten(), minlength=(int(a.max()) + 1) * width)
    overlap = pairs.view(-1, width).numpy()
    return int(overlap[linear_sum_assignment(overlap, maximize=True)].sum())


def backbone_in(dtype: torch.dtype) -> Change:
    """Return a change after which the blocks compute in `dtype`; their outputs are converted to float32."""

    def change(segmenter: Segmenter) -> None:
        for block in segmenter.backbone:
            block.to(dtype)
            block.register_forward_pre_hook(lambda _, inputs: (inputs[0].to(dtype),))
            block.register_forward_hook(lambda _, inputs, output: output.float())

    return change


def in_tf32(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.weight.data = tf32(module.weight.data)
            module.register_forward_pre_hook(lambda _, inputs: (tf32(inputs[0]),))


def tf32(values: Tensor) -> Tensor:
    """Return float32 values rounded to TF32's 10 bits, half to even."""
    bits = values.view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


CHANGES: dict[str, Change] = {
    **{f"CLIP in {dtype}": lambda segmenter, dtype=dtype: segmenter.clip.use_precision(dtype) for dtype in HALVES},
    "CLIP in TF32": lambda segmenter: in_tf32(segmenter.clip.image_tower),
    **{f"EfficientNet in {dtype}": backbone_in(dtype) for dtype in HALVES},
    "EfficientNet in TF32": lambda segmenter: in_tf32(segmenter.backbone),
}


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", help="files, folders or globs")
    parser.add_argument("--classes", required=True)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--backbone-weights")
    parser.add_argument("--clip")
    parser.add_argument("--clip-weights")
    parser.add_argument("--batch-size", type=int, default=16)
    return parser.parse_args()


if __name__ == "__main__":
    main()
