"""COCO val2017: 5000 images with two kinds of label maps, 8-bit gray.

coco-stuff-171: `*_labelTrainIds.png` of mmsegmentation's converter for COCO-Stuff 164k. 0 to 170 are the classes of
objects and stuff, 255 is unlabelled and void.

coco-object-81: `*_instanceTrainIds.png` of GroupViT's converter, which TCL, SCLIP, NACLIP and later work use. 0 is the
background, 1 to 80 are the objects. The converter maps all stuff and unlabelled pixels (255) to the background, so no
pixel is void, and a label map with the value 255 does not come from this converter.
"""

from ovsr_gpu.datasets.dataset import Benchmark
from ovsr_gpu.datasets.labels import LabelEncoding
from ovsr_gpu.datasets.layout import Layout

_SOURCE = (
    "Images are in val2017.zip of COCO; label maps are created from stuffthingmaps_trainval2017.zip of COCO-Stuff by "
)

COCO_STUFF_171 = Benchmark(
    "coco-stuff-171",
    Layout(
        images="images/val2017/*.jpg",
        labels="annotations/val2017/*_labelTrainIds.png",
        folders=(".", "coco_stuff164k"),
        source=_SOURCE + "mmsegmentation's tools/dataset_converters/coco_stuff164k.py.",
    ),
    LabelEncoding(range(171), void=(255,)),
    expected_size=5000,
)
COCO_OBJECT_81 = Benchmark(
    "coco-object-81",
    Layout(
        images="images/val2017/*.jpg",
        labels="annotations/val2017/*_instanceTrainIds.png",
        folders=(".", "coco_object", "coco_stuff164k"),
        source=_SOURCE + "convert_coco_object.py of GroupViT, or cvt_coco_object.py of NACLIP.",
    ),
    LabelEncoding(range(81)),
    expected_size=5000,
    background_index=0,
)
