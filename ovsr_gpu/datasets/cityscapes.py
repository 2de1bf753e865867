"""Cityscapes, fine annotations, val: 500 images of three cities, 19 classes.

Label maps are the `*_gtFine_labelTrainIds.png` of cityscapesScripts, 8-bit gray: 0 to 18 the classes that are
evaluated, 255 all others, which do not count. The name of an example begins with its city:
"lindau/lindau_000000_000019".
"""

from ovsr_gpu.datasets.dataset import Benchmark
from ovsr_gpu.datasets.labels import LabelRule
from ovsr_gpu.datasets.layout import Layout

CITYSCAPES_19 = Benchmark(
    "cityscapes-19",
    Layout(
        images="leftImg8bit/val/*_leftImg8bit.png",
        labels="gtFine/val/*_gtFine_labelTrainIds.png",
        folders=(".", "cityscapes"),
        source=(
            "They are in leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of Cityscapes; "
            "csCreateTrainIdLabelImgs of cityscapesScripts makes the labelTrainIds."
        ),
    ),
    LabelRule(range(19), void=(255,)),
    full_size=500,
)
