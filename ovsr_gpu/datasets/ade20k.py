"""ADE20K, scene parsing benchmark, validation: 2000 images, 150 classes.

Label maps are 8-bit gray: 0 what is none of the classes, which does not count (mmsegmentation's reduce_zero_label, as
in the benchmark itself), 1 to 150 the classes. 255 does not occur, and would be void by mmsegmentation's ignore_index.
"""

from ovsr_gpu.datasets.dataset import Benchmark
from ovsr_gpu.datasets.labels import LabelRule
from ovsr_gpu.datasets.layout import Layout

ADE20K_150 = Benchmark(
    "ade20k-150",
    Layout(
        images="images/validation/*.jpg",
        labels="annotations/validation/*.png",
        folders=(".", "ADEChallengeData2016", "ade/ADEChallengeData2016"),
        source="They are in ADEChallengeData2016.zip of MIT's scene parsing benchmark.",
    ),
    LabelRule(range(1, 151), void=(0, 255)),
    full_size=2000,
)
