"""COCO, val2017: 5000 images, with two kinds of label maps, 8-bit gray.

coco-stuff-171: `*_labelTrainIds.png` of mmsegmentation's converter of COCO-Stuff 164k: 0 to 170 the classes of objects
and stuff, 255 unlabelled, which does not count.

coco-object-81: `*_instanceTrainIds.png` of GroupViT's converter, which TCL, SCLIP, NACLIP and those after them use: 0
the background, 1 to 80 the objects. The converter makes background of all stuff and of what is unlabelled (255), so
that every pixel counts, and a label map that holds 255 is not its work.
"""

from ovsr_gpu.datasets.dataset import Benchmark
from ovsr_gpu.datasets.labels import LabelRule
from ovsr_gpu.datasets.layout import Layout

_SOURCE = (
    "Images are in val2017.zip of COCO; label maps are made from stuffthingmaps_trainval2017.zip of COCO-Stuff by "
)

COCO_STUFF_171 = Benchmark(
    "coco-stuff-171",
    Layout(
        images="images/val2017/*.jpg",
        labels="annotations/val2017/*_labelTrainIds.png",
        folders=(".", "coco_stuff164k"),
        source=_SOURCE + "mmsegmentation's tools/dataset_converters/coco_stuff164k.py.",
    ),
    LabelRule(range(171), void=(255,)),
    full_size=5000,
)
COCO_OBJECT_81 = Benchmark(
    "coco-object-81",
    Layout(
        images="images/val2017/*.jpg",
        labels="annotations/val2017/*_instanceTrainIds.png",
        folders=(".", "coco_object", "coco_stuff164k"),
        source=_SOURCE + "convert_coco_object.py of GroupViT, or cvt_coco_object.py of NACLIP.",
    ),
    LabelRule(range(81)),
    full_size=5000,
    background=0,
)
