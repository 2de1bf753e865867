"""Every setting of the method and its default, as frozen, validated dataclasses.

The paper (arXiv 2510.19333) fixes the stages; the numbers below are this package's declared choices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

SvdDriver = Literal["gram", "svd"]
Linkage = Literal["ward", "complete", "average", "weighted", "single"]
Connectivity = Literal["4", "8", "full"]
CountRule = Literal[
    "merge_cost", "effective_rank", "energy", "ratio_gap", "participation_ratio", "hard_threshold", "elbow", "fixed"
]
BoxMode = Literal["squash", "square", "open_clip"]
Background = Literal["keep", "blur", "mean"]
Boundaries = Literal["grid", "image"]
RegionEncoder = Literal["crop", "dense"]
Synonyms = Literal["mean", "max"]
Precision = Literal["float32", "float16", "bfloat16"]
Preset = Literal["default", "paper", "quality", "fine"]

COUNT_PARAMETERS: dict[str, float] = {
    "merge_cost": 0.035,
    "effective_rank": 0.03,
    "energy": 0.2,
    "ratio_gap": 1.0,
    "participation_ratio": 0.15,
    "hard_threshold": 0.05,
    "elbow": 0.1,
    "fixed": 3.0,
}
"""What `ClusteringConfig.count_parameter` is for each rule when it is left at None; see `stages.clustering`."""


def _check_choice(name: str, value: object, choices: object) -> None:
    allowed = get_args(choices)
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}")


def _check_range(name: str, value: float, low: float, high: float = float("inf")) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}]; got {value!r}")


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """Pixel features: EfficientNet-B0 levels brought to one grid.

    `levels` are indices into torchvision's `efficientnet_b0().features`; each image is squashed to `input_size`
    pixels a side, and the levels are resized to a `grid_size` x `grid_size` grid.
    """

    levels: tuple[int, ...] = (3, 5)
    input_size: int = 448
    grid_size: int = 40

    def __post_init__(self) -> None:
        if not self.levels or any(not 0 <= level <= 8 for level in self.levels):
            raise ValueError(f"features.levels must be indices from 0 to 8, at least one; got {self.levels!r}")
        _check_range("features.input_size", self.input_size, 32, 4096)
        _check_range("features.grid_size", self.grid_size, 1, 181)


@dataclass(frozen=True, kw_only=True)
class LatentConfig:
    """SVD latents: the first `rank` components, scaled by their singular values unless `scaled` is False.

    `driver` "gram" takes them from a Gram matrix in float64, on a GPU without a wait of the host; "svd" is torch's own
    decomposition, the reference.
    """

    rank: int = 16
    scaled: bool = True
    driver: SvdDriver = "gram"

    def __post_init__(self) -> None:
        _check_range("latents.rank", self.rank, 1)
        _check_choice("latents.driver", self.driver, SvdDriver)


@dataclass(frozen=True, kw_only=True)
class ClusteringConfig:
    """Agglomerative clustering of the latents and the rule that chooses the number of clusters.

    `connectivity` "full" compares every pair of grid cells; "4" and "8" merge only clusters that touch.
    `count_parameter` None takes the rule's value in `COUNT_PARAMETERS`.
    """

    linkage: Linkage = "ward"
    connectivity: Connectivity = "4"
    count_rule: CountRule = "merge_cost"
    count_parameter: float | None = None
    max_clusters: int = 32

    def __post_init__(self) -> None:
        _check_choice("clustering.linkage", self.linkage, Linkage)
        _check_choice("clustering.connectivity", self.connectivity, Connectivity)
        _check_choice("clustering.count_rule", self.count_rule, CountRule)
        _check_range("clustering.max_clusters", self.max_clusters, 1)
        if self.count_parameter is not None:
            _check_range("clustering.count_parameter", self.count_parameter, 0)
        if self.connectivity != "full" and self.linkage == "weighted":
            raise ValueError(
                f"clustering.linkage {self.linkage!r} needs clustering.connectivity 'full'; the pixel graph "
                f"(connectivity {self.connectivity!r}) offers 'ward', 'complete', 'average' and 'single'"
            )

    @property
    def count_value(self) -> float:
        """The rule's parameter, with the default filled in."""
        return COUNT_PARAMETERS[self.count_rule] if self.count_parameter is None else self.count_parameter


@dataclass(frozen=True, kw_only=True)
class RegionConfig:
    """Regions and how CLIP sees them.

    Components smaller than the share `min_area` of the image are absorbed by the neighbor with the longest common
    border. `boundaries` "image" moves the borders of what is left to edges in the image, a cell of the grid or so;
    "grid" only rounds them.

    Each box is grown by the share `context` of its sides on every side, then handled as `box` says; what lies outside
    the region's mask is treated as `background` says. Of several backgrounds each has a crop of its own, and the region
    the mean of their embeddings. `encoder` "crop" puts each such crop through CLIP; "dense" puts the whole image
    through it once and pools what it says of the positions under each mask: there are no crops then, and their settings
    play no part. `ancestors` crops also the unions of regions up the dendrogram, and gives each region the mean of all
    that it lies in: for a finer cut, whose regions say too little alone.
    """

    min_area: float = 0.005
    boundaries: Boundaries = "image"
    context: float = 0.15
    box: BoxMode = "squash"
    background: Background | tuple[Background, ...] = "mean"
    encoder: RegionEncoder = "crop"
    ancestors: bool = False

    def __post_init__(self) -> None:
        _check_range("regions.min_area", self.min_area, 0, 1)
        _check_choice("regions.boundaries", self.boundaries, Boundaries)
        _check_range("regions.context", self.context, 0, 10)
        _check_choice("regions.box", self.box, BoxMode)
        if not self.backgrounds:
            raise ValueError("regions.background must be one background or more; got ()")
        for background in self.backgrounds:
            _check_choice("regions.background", background, Background)
        _check_choice("regions.encoder", self.encoder, RegionEncoder)
        if self.ancestors and self.encoder != "crop":
            raise ValueError(f"regions.ancestors needs regions.encoder 'crop'; got {self.encoder!r}")

    @property
    def backgrounds(self) -> tuple[Background, ...]:
        """`background` as a tuple, however many there are."""
        return self.background if isinstance(self.background, tuple) else (self.background,)


@dataclass(frozen=True, kw_only=True)
class RecognitionConfig:
    """Naming the regions.

    `templates` "imagenet" is the 80-template ensemble that open_clip ships; otherwise a tuple of strings with one
    `{}` each. `shared_rank` None leaves CLIP's space as it is; a number projects the regions and texts of each
    image on that many singular directions, after centering them if `shared_centered`. `something_else` are the prompts
    for what is in no class; with none, () , every region goes to the class that fits it best. A region whose best class
    has a probability below `threshold` becomes "something else" in either case. With `merge_regions` regions of one class that
    touch become one.

    `synonyms` "mean" makes one text of all synonyms of a class. With "max" each is a text of its own in the softmax,
    and the class has the probability of its most probable one: what they sum to is less than 1 then. `logit_scale` is
    the factor of the cosines, None for the model's own.

    `background` says that the first class stands for all that is in none of the others: a region below `threshold`
    becomes it instead of "something else", for which there may be no prompts then. With `area_threshold` an image has
    none of the other classes whose regions come to no more than this fraction of the regions of all of them: these regions
    go to what is the most probable then.
    """

    templates: Literal["imagenet"] | tuple[str, ...] = "imagenet"
    something_else: tuple[str, ...] = ("something else",)
    shared_rank: int | None = None
    shared_centered: bool = False
    threshold: float | None = None
    merge_regions: bool = False
    synonyms: Synonyms = "mean"
    logit_scale: float | None = None
    background: bool = False
    area_threshold: float | None = None

    def __post_init__(self) -> None:
        if self.templates != "imagenet" and (
            isinstance(self.templates, str) or not self.templates or any("{}" not in t for t in self.templates)
        ):
            raise ValueError(
                "recognition.templates must be 'imagenet' or a tuple of strings that each contain '{}'; "
                f"got {self.templates!r}"
            )
        if isinstance(self.something_else, str) or not all(prompt.strip() for prompt in self.something_else):
            raise ValueError(
                "recognition.something_else must be a tuple of prompts, none of them empty; "
                f"got {self.something_else!r}"
            )
        if self.shared_rank is not None:
            _check_range("recognition.shared_rank", self.shared_rank, 1)
        if self.threshold is not None:
            _check_range("recognition.threshold", self.threshold, 0, 1)
        _check_choice("recognition.synonyms", self.synonyms, Synonyms)
        if self.logit_scale is not None:
            _check_range("recognition.logit_scale", self.logit_scale, 0)
        if self.background and self.something_else:
            raise ValueError(f"recognition.background needs recognition.something_else (); got {self.something_else!r}")
        if self.area_threshold is not None:
            _check_range("recognition.area_threshold", self.area_threshold, 0, 1)
            if not self.background:
                raise ValueError("recognition.area_threshold needs recognition.background")

    def scale(self, own: float) -> float:
        """The factor of the cosines, given CLIP's `own`."""
        return own if self.logit_scale is None else self.logit_scale


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The two networks, each by a tag or a file: torchvision's EfficientNet-B0, and a model of open_clip, whose weights
    are None where it brings them along.

    At most `batch` images or crops go through a network at a time; None chooses by the device. With `full_batches`
    always so many, the last ones filled up with blanks, so that a network never sees another shape. `clip_precision` is
    that of CLIP's image tower; None is "float16" on a CUDA GPU and "float32" elsewhere. Everything else, EfficientNet
    above all, is float32: with less, the regions of photographs change (benchmarks/precision.py). `compile` has torch
    compile both networks, at their first use, which takes a minute or so.
    """

    backbone_weights: str = "IMAGENET1K_V1"
    clip: str = "ViT-B-16"
    clip_weights: str | None = "datacomp_xl_s13b_b90k"
    clip_precision: Precision | None = None
    batch: int | None = None
    full_batches: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        if self.batch is not None:
            _check_range("models.batch", self.batch, 1)
        if self.clip_precision is not None:
            _check_choice("models.clip_precision", self.clip_precision, Precision)


_PRESETS: dict[str, dict[str, Any]] = {
    "default": {
        "clustering": ClusteringConfig(),
        "regions": RegionConfig(),
        "recognition": RecognitionConfig(),
    },
    "paper": {
        "clustering": ClusteringConfig(count_rule="effective_rank"),
        "regions": RegionConfig(),
        "recognition": RecognitionConfig(shared_rank=16),
    },
    "quality": {
        "clustering": ClusteringConfig(),
        "regions": RegionConfig(background=("mean", "blur", "keep")),
        "recognition": RecognitionConfig(merge_regions=True),
    },
    "fine": {
        "clustering": ClusteringConfig(count_parameter=0.01),
        "regions": RegionConfig(ancestors=True, context=0.05),
        "recognition": RecognitionConfig(merge_regions=True),
    },
}
_BY_PRESET: Any = None


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of the method.

    `preset` fills every group that is not given: "default" is what measures best at its cost, "paper" switches on
    everything that the paper's abstract fixes (the number of clusters read off the singular values alone, the shared
    space by SVD). "quality" puts each region through CLIP three times, its background set to the mean, blurred and
    kept. "fine" cuts finer and names the unions up the dendrogram along with the regions, six times as many crops, for
    images of many things. Both unite regions of one name that touch.

    Raises ValueError, naming the field, where a value is out of range.
    """

    preset: Preset = "default"
    features: FeatureConfig = FeatureConfig()
    latents: LatentConfig = LatentConfig()
    clustering: ClusteringConfig = _BY_PRESET
    regions: RegionConfig = _BY_PRESET
    recognition: RecognitionConfig = _BY_PRESET
    models: ModelConfig = ModelConfig()

    def __post_init__(self) -> None:
        _check_choice("preset", self.preset, Preset)
        for group, settings in _PRESETS[self.preset].items():
            if getattr(self, group) is _BY_PRESET:
                object.__setattr__(self, group, settings)
        if self.regions.ancestors:
            _check_range("clustering.max_clusters with regions.ancestors", self.clustering.max_clusters, 1, 63)
