"""Cityscapes, fine annotations, val split: 500 images of three cities, 19 classes.

Label maps are the `*_gtFine_labelTrainIds.png` of cityscapesScripts, 8-bit gray: 0 to 18 are the evaluated classes, 255
is any other class and void. The name of an example starts with its city: "lindau/lindau_000000_000019".
"""

from ovsr_gpu.datasets.dataset import Benchmark
from ovsr_gpu.datasets.labels import LabelEncoding
from ovsr_gpu.datasets.layout import Layout

CITYSCAPES_19 = Benchmark(
    "cityscapes-19",
    Layout(
        images="leftImg8bit/val/*_leftImg8bit.png",
        labels="gtFine/val/*_gtFine_labelTrainIds.png",
        folders=(".", "cityscapes"),
        source=(
            "The files are in leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of Cityscapes; "
            "csCreateTrainIdLabelImgs of cityscapesScripts creates the labelTrainIds."
        ),
    ),
    LabelEncoding(range(19), void=(255,)),
    expected_size=500,
)
