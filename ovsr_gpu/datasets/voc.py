"""PASCAL VOC 2012, segmentation, val: 1449 images, 20 classes of objects.

Label maps are palette PNG: 0 background, 1 to 20 the classes, 255 the rim of objects and what was hard to label
(the development kit of VOC 2012). voc21 counts the background as a class of its own; voc20 leaves it out as void, which
is mmsegmentation's reduce_zero_label in SCLIP, ClearCLIP, NACLIP and ProxyCLIP.
"""

from ovsr_gpu.datasets.dataset import Benchmark
from ovsr_gpu.datasets.labels import LabelRule
from ovsr_gpu.datasets.layout import Layout

_LAYOUT = Layout(
    images="JPEGImages/*.jpg",
    labels="SegmentationClass/*.png",
    names="ImageSets/Segmentation/val.txt",
    folders=(".", "VOC2012", "VOCdevkit/VOC2012"),
    source="They are in VOCtrainval_11-May-2012.tar of PASCAL VOC 2012.",
)

VOC20 = Benchmark("voc20", _LAYOUT, LabelRule(range(1, 21), void=(0, 255)), full_size=1449)
VOC21 = Benchmark("voc21", _LAYOUT, LabelRule(range(21), void=(255,)), full_size=1449, background=0)
