"""All settings of the method and their defaults, as frozen, validated dataclasses.

The paper (arXiv 2510.19333) fixes the stages; the numbers below are choices of this package, measured in
docs/quality.md.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from typing_extensions import Self

SvdDriver = Literal["gram", "svd"]
Linkage = Literal["ward", "complete", "average", "single"]
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
"""The default of `ClusteringConfig.count_parameter` for each rule; see `stages.clustering` for its meaning."""


def _check_choice(name: str, value: object, choices: object) -> None:
    allowed = get_args(choices)
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}")


def _check_range(name: str, value: float, low: float, high: float = float("inf")) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}]; got {value!r}")


@dataclass(frozen=True, kw_only=True)
class _SettingsGroup:
    """Base of the groups of `Config`: remembers which fields were passed to the constructor.

    Values alone cannot show this: a field may be set to its default on purpose, to override a preset.
    """

    _explicit_fields = frozenset[str]()  # without an annotation, so not a dataclass field

    def __new__(cls, **explicit: Any) -> Self:
        self = super().__new__(cls)
        object.__setattr__(self, "_explicit_fields", frozenset(explicit))
        return self

    def _with_preset(self, preset: dict[str, Any]) -> Self:
        """Return a group with the values of `preset` in the fields that were not set explicitly."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values |= {name: value for name, value in preset.items() if name not in self._explicit_fields}
        return type(self)(**values)


@dataclass(frozen=True, kw_only=True)
class FeatureConfig(_SettingsGroup):
    """Pixel features: blocks of EfficientNet-B0 resized to one grid.

    Attributes:
        levels: Indices of blocks in torchvision's `efficientnet_b0().features`, 0 to 8.
        input_size: Side in pixels of the square that each image is resized to, 32 to 4096.
        grid_size: Cells per side of the grid, 1 to 181.
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
class LatentConfig(_SettingsGroup):
    """SVD latents of the pixel features.

    Attributes:
        rank: Number of leading components R.
        scaled: Whether the components are multiplied by their singular values (Z = U Sigma, else Z = U).
        driver: "gram" decomposes a Gram matrix in float64 and does not block the host on a GPU; "svd" calls
            `torch.linalg.svd`, the reference.
    """

    rank: int = 16
    scaled: bool = True
    driver: SvdDriver = "gram"

    def __post_init__(self) -> None:
        _check_range("latents.rank", self.rank, 1)
        _check_choice("latents.driver", self.driver, SvdDriver)


@dataclass(frozen=True, kw_only=True)
class ClusteringConfig(_SettingsGroup):
    """Agglomerative clustering of the latents, and the rule that chooses the number of clusters.

    Attributes:
        linkage: The linkage criterion.
        connectivity: "4" and "8" merge only clusters that touch on the pixel grid; "full" allows any pair to merge.
        count_rule: The rule for the number of clusters, see `stages.clustering`.
        count_parameter: The parameter of the rule; None for its default in `COUNT_PARAMETERS`.
        max_clusters: Maximum number of clusters per image; at most 63 with `RegionConfig.ancestors`.
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

    @property
    def effective_count_parameter(self) -> float:
        """`count_parameter`, or the default of the rule if it is None."""
        return COUNT_PARAMETERS[self.count_rule] if self.count_parameter is None else self.count_parameter

    def _with_preset(self, preset: dict[str, Any]) -> Self:
        # A count_parameter belongs to its rule, so another rule does not take it over from the preset.
        if "count_rule" in self._explicit_fields and self.count_rule != preset.get("count_rule"):
            preset = {name: value for name, value in preset.items() if name != "count_parameter"}
        return super()._with_preset(preset)


@dataclass(frozen=True, kw_only=True)
class RegionConfig(_SettingsGroup):
    """Regions, and their embedding by CLIP.

    Attributes:
        min_area: Connected components smaller than this fraction of the image are absorbed by the neighbor with the
            longest common border.
        boundaries: "image" moves the boundaries of the regions to edges in the image, by about one grid cell; "grid"
            only smooths the boundaries of the grid cells.
        context: Margin that each box is enlarged by on every side, as a fraction of its width or height.
        box: How a box is fitted to CLIP's square input: "squash" resizes it, "square" first grows it to a square inside
            the image, "open_clip" uses the model's own resize mode.
        background: Treatment of the pixels of a crop outside its region: "keep", "blur", or "mean" (fill with the
            model's mean color). A tuple makes one crop per treatment; the region gets the mean of their embeddings.
        encoder: "crop" encodes each crop; "dense" encodes the whole image once and pools the patch features under each
            mask, without crops, so that `context`, `box` and `background` have no effect.
        ancestors: Whether the ancestors of the regions in the dendrogram are encoded too. Each region then gets the
            weighted mean of its own embedding and those of its ancestors; this suits many small regions. Needs encoder
            "crop".
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
        """`background` as a tuple."""
        return self.background if isinstance(self.background, tuple) else (self.background,)


@dataclass(frozen=True, kw_only=True)
class RecognitionConfig(_SettingsGroup):
    """Classification of the regions.

    Attributes:
        templates: "imagenet" for the ensemble of 80 templates that open_clip ships, or a tuple of strings that each
            contain `{}`.
        something_else: Prompts for regions that belong to no class; with none, `()`, every region gets its most
            probable class unless it is below `threshold`.
        shared_rank: Number of leading singular vectors on which the region and text embeddings of each image are
            projected before they are compared; None compares them in CLIP's own space.
        shared_centered: Whether the embeddings are centered before that projection.
        threshold: A region whose most probable class has a lower probability becomes "something else".
        merge_regions: Whether touching regions of the same class are merged.
        synonyms: "mean" averages all synonyms of a class into one text embedding. "max" keeps a text for each synonym
            in the softmax; the class gets the probability of its most probable synonym, so that the probabilities sum
            to less than 1.
        logit_scale: Factor of the cosine similarities before the softmax; None for the model's own.
        first_class_is_background: Whether the first class means everything outside the other classes. A region
            below `threshold` then gets this class instead of "something else"; `something_else` must be `()`.
        area_threshold: A class other than the first whose regions cover at most this fraction of the area of all such
            classes in an image is excluded there; its regions get their next most probable class. Needs
            `first_class_is_background`.
    """

    templates: Literal["imagenet"] | tuple[str, ...] = "imagenet"
    something_else: tuple[str, ...] = ("something else",)
    shared_rank: int | None = None
    shared_centered: bool = False
    threshold: float | None = None
    merge_regions: bool = False
    synonyms: Synonyms = "mean"
    logit_scale: float | None = None
    first_class_is_background: bool = False
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
        if self.first_class_is_background and self.something_else:
            raise ValueError(
                "recognition.first_class_is_background needs recognition.something_else (); "
                f"got {self.something_else!r}"
            )
        if self.area_threshold is not None:
            _check_range("recognition.area_threshold", self.area_threshold, 0, 1)
            if not self.first_class_is_background:
                raise ValueError("recognition.area_threshold needs recognition.first_class_is_background")

    def effective_logit_scale(self, model_scale: float) -> float:
        """Return `logit_scale`, or `model_scale`, the scale of the CLIP model, if it is None."""
        return model_scale if self.logit_scale is None else self.logit_scale


@dataclass(frozen=True, kw_only=True)
class ModelConfig(_SettingsGroup):
    """The two networks, and how they run.

    Attributes:
        backbone_weights: A torchvision tag of EfficientNet-B0 or a checkpoint file.
        clip: An open_clip model name or `local-dir:PATH`.
        clip_weights: A pretrained tag of that model or a file; None if `clip` includes the weights.
        clip_precision: Precision of CLIP's image tower; None for "float16" on a CUDA GPU and "float32" elsewhere.
            Everything else is float32: lower precision changes the regions of photographs (benchmarks/precision.py).
        batch: Maximum number of images or crops in one forward pass; None chooses by device.
        full_batches: Whether batches are zero-padded to exactly `batch` rows, so that a network sees one shape only.
        compile: Whether both networks are compiled by `torch.compile` at their first use, which takes about a minute.
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


_PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "default": {},
    "paper": {
        "clustering": {"count_rule": "effective_rank"},
        "recognition": {"shared_rank": 16},
    },
    "quality": {
        "regions": {"background": ("mean", "blur", "keep")},
        "recognition": {"merge_regions": True},
    },
    "fine": {
        "clustering": {"count_rule": "merge_cost", "count_parameter": 0.01},
        "regions": {"ancestors": True, "context": 0.05},
        "recognition": {"merge_regions": True},
    },
}
"""By preset and group, the fields that differ from the defaults of the group."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of the method.

    The preset is the base; every field that is passed explicitly to a group overrides it, even with a value equal to
    the default. The groups of a `Config` are complete: they hold the final values, all of them count as explicit, and
    `dataclasses.replace` keeps them. For another preset make a new `Config`.

    Attributes:
        preset: "default" has the best measured quality at low cost. "paper" uses everything that the abstract of the
            paper fixes: the number of clusters from the singular values alone, and the shared space by SVD. "quality"
            encodes each region three times, with its background filled with the mean, blurred and kept. "fine" makes
            smaller regions and encodes their ancestors in the dendrogram too, about six times as many crops, for images
            of many objects. "quality" and "fine" merge touching regions of the same class.
        features: Pixel features.
        latents: SVD latents.
        clustering: Clustering and the number of clusters. If an explicit `count_rule` differs from the preset's, the
            preset's `count_parameter` does not apply.
        regions: Regions and their embedding.
        recognition: Classification of the regions.
        models: The networks.

    Raises:
        ValueError: A value is out of range or two values do not fit together; the message names the field.

    Example:
        >>> Config(preset="fine", regions=RegionConfig(min_area=0.01)).regions.ancestors
        True
    """

    preset: Preset = "default"
    features: FeatureConfig = FeatureConfig()
    latents: LatentConfig = LatentConfig()
    clustering: ClusteringConfig = ClusteringConfig()
    regions: RegionConfig = RegionConfig()
    recognition: RecognitionConfig = RecognitionConfig()
    models: ModelConfig = ModelConfig()

    def __post_init__(self) -> None:
        _check_choice("preset", self.preset, Preset)
        for field in fields(self):
            group = getattr(self, field.name)
            if isinstance(group, _SettingsGroup):
                preset = _PRESETS[self.preset].get(field.name, {})
                object.__setattr__(self, field.name, group._with_preset(preset))
        if self.regions.ancestors:
            _check_range("clustering.max_clusters with regions.ancestors", self.clustering.max_clusters, 1, 63)
