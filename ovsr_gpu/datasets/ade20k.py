"""ADE20K scene parsing benchmark, validation split: 2000 images, 150 classes.

Label maps are 8-bit gray. 0 is a pixel of no class and void (mmsegmentation's reduce_zero_label, as in the benchmark
itself), 1 to 150 are the classes. 255 does not occur; it would be void as mmsegmentation's ignore_index.
"""

from ovsr_gpu.datasets.dataset import Benchmark
from ovsr_gpu.datasets.labels import LabelEncoding
from ovsr_gpu.datasets.layout import Layout

ADE20K_150 = Benchmark(
    "ade20k-150",
    Layout(
        images="images/validation/*.jpg",
        labels="annotations/validation/*.png",
        folders=(".", "ADEChallengeData2016", "ade/ADEChallengeData2016"),
        source="The files are in ADEChallengeData2016.zip of MIT's scene parsing benchmark.",
    ),
    LabelEncoding(range(1, 151), void=(0, 255)),
    expected_size=2000,
)
