"""Segmentation and recognition quality on a folder of labelled pictures.

    python benchmarks/quality.py ROOT --list names.txt --backbone-weights FILE --clip local-dir:DIR

ROOT holds `images/NAME.png`, `labels/NAME.png` (uint8) and `classes.json` with "classes" (name of each label value)
and "void" (the value to ignore).

Per-image Hungarian mIoU is `ImageHungarianScores.picture_miou`, labelled mIoU `PixelScores.miou` of
`ovsr_gpu.evaluation`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ovsr_gpu import Config, RegionConfig, Segmenter
from ovsr_gpu.evaluation import ImageHungarian, PixelConfusion


def main() -> None:
    options = parse_options()
    names = options.list.read_text().split()
    legend = json.loads((options.root / "classes.json").read_text())
    values = [value for value in range(len(legend["classes"])) if value != legend["void"]]
    index_of = np.full(256, -1)
    index_of[values] = np.arange(len(values))
    classes = [legend["classes"][value] for value in values]

    segmenter = Segmenter.from_pretrained(
        Config(preset=options.preset, regions=RegionConfig(encoder=options.encoder)),
        backbone_weights=options.backbone_weights,
        clip=options.clip,
        clip_weights=options.clip_weights,
        device=options.device,
    )
    segmenter([options.root / f"images/{names[0]}.png"], classes)  # warm-up, text embeddings

    confusion, hungarian = PixelConfusion(len(classes)), ImageHungarian(len(classes))
    regions, clusters, seconds = 0, 0, 0.0
    for first in range(0, len(names), options.batch_size):
        batch = names[first : first + options.batch_size]
        start = time.perf_counter()
        prediction = segmenter([options.root / f"images/{name}.png" for name in batch], classes)
        class_maps = [one.cpu() for one in prediction.class_map]
        seconds += time.perf_counter() - start
        regions += len(prediction.regions)
        clusters += int(prediction.cluster_count.sum())
        for name, class_map, region_map in zip(batch, class_maps, prediction.region_map, strict=True):
            truth = torch.from_numpy(index_of[np.asarray(Image.open(options.root / f"labels/{name}.png"))])
            confusion.update(class_map, truth)
            hungarian.update(region_map.cpu(), truth)

    scores = confusion.result()
    print(f"{'pictures':28}{len(names)}")
    print(f"{'per-image Hungarian mIoU':28}{100 * hungarian.result().picture_miou:.1f}")
    print(f"{'labelled mIoU':28}{100 * scores.miou:.1f}")
    print(f"{'pixel accuracy':28}{100 * scores.pixel_accuracy:.1f}")
    print(f"{'clusters, regions a picture':28}{clusters / len(names):.2f}, {regions / len(names):.2f}")
    print(f"{'pictures a second':28}{len(names) / seconds:.2f} on {segmenter.device}")
    if options.per_class:
        for name, share in zip(classes, scores.iou, strict=True):
            if share is not None:
                print(f"    {name:24}{100 * share:.1f}")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--list", type=Path, required=True, help="text file with a picture name a line")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--encoder", default="crop", help="crop or dense")
    parser.add_argument("--backbone-weights")
    parser.add_argument("--clip")
    parser.add_argument("--clip-weights")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--per-class", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
