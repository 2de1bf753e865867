"""PASCAL Context, val split: 5104 images, the 59 most frequent classes.

Label maps are those of mmsegmentation's converter, 8-bit gray: 0 is a pixel of none of the 59 classes, 1 to 59 are the
classes. In context-60, 0 is the class "background"; in context-59 it is void (reduce_zero_label). 255 does not occur;
it would be void as mmsegmentation's ignore_index.
"""

from ovsr_gpu.datasets.dataset import Benchmark
from ovsr_gpu.datasets.labels import LabelEncoding
from ovsr_gpu.datasets.layout import Layout

_LAYOUT = Layout(
    images="JPEGImages/*.jpg",
    labels="SegmentationClassContext/*.png",
    names="ImageSets/SegmentationContext/val.txt",
    folders=(".", "VOC2010", "VOCdevkit/VOC2010"),
    source=(
        "Images are in VOCtrainval_03-May-2010.tar of PASCAL VOC 2010; mmsegmentation's "
        "tools/dataset_converters/pascal_context.py creates the other files from trainval_merged.json."
    ),
)

CONTEXT_59 = Benchmark("context-59", _LAYOUT, LabelEncoding(range(1, 60), void=(0, 255)), expected_size=5104)
CONTEXT_60 = Benchmark(
    "context-60", _LAYOUT, LabelEncoding(range(60), void=(255,)), expected_size=5104, background_index=0
)
