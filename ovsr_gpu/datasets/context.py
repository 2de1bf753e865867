"""PASCAL Context, val: 5104 images, its 59 frequent classes.

Label maps are those of mmsegmentation's converter, 8-bit gray: 0 whatever is none of the 59, 1 to 59 the classes.
context-60 counts 0 as the class "background"; context-59 leaves it out as void (reduce_zero_label). 255 does not occur,
and would be void by mmsegmentation's ignore_index.
"""

from ovsr_gpu.datasets.dataset import Benchmark
from ovsr_gpu.datasets.labels import LabelRule
from ovsr_gpu.datasets.layout import Layout

_LAYOUT = Layout(
    images="JPEGImages/*.jpg",
    labels="SegmentationClassContext/*.png",
    names="ImageSets/SegmentationContext/val.txt",
    folders=(".", "VOC2010", "VOCdevkit/VOC2010"),
    source=(
        "Images are in VOCtrainval_03-May-2010.tar of PASCAL VOC 2010; mmsegmentation's "
        "tools/dataset_converters/pascal_context.py makes the rest from trainval_merged.json."
    ),
)

CONTEXT_59 = Benchmark("context-59", _LAYOUT, LabelRule(range(1, 60), void=(0, 255)), full_size=5104)
CONTEXT_60 = Benchmark("context-60", _LAYOUT, LabelRule(range(60), void=(255,)), full_size=5104, background=0)
