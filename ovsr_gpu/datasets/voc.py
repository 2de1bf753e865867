"""PASCAL VOC 2012 segmentation, val split: 1449 images, 20 classes of objects.

Label maps are palette PNG files: 0 is the background, 1 to 20 are the classes, 255 marks object boundaries and regions
that are difficult to label (development kit of VOC 2012). In voc21 the background is a class; in voc20 it is void, as
with mmsegmentation's reduce_zero_label in SCLIP, ClearCLIP, NACLIP and ProxyCLIP.
"""

from ovsr_gpu.datasets.dataset import Benchmark
from ovsr_gpu.datasets.labels import LabelEncoding
from ovsr_gpu.datasets.layout import Layout

_LAYOUT = Layout(
    images="JPEGImages/*.jpg",
    labels="SegmentationClass/*.png",
    names="ImageSets/Segmentation/val.txt",
    folders=(".", "VOC2012", "VOCdevkit/VOC2012"),
    source="The files are in VOCtrainval_11-May-2012.tar of PASCAL VOC 2012.",
)

VOC20 = Benchmark("voc20", _LAYOUT, LabelEncoding(range(1, 21), void=(0, 255)), expected_size=1449)
VOC21 = Benchmark("voc21", _LAYOUT, LabelEncoding(range(21), void=(255,)), expected_size=1449, background_index=0)
