"""The data that passes between the stages, and the results that a call returns.

Shape letters: B images, H, W pixels, h, w grid, P = h*w, C channels, M = min(P, C), R rank, K clusters, N regions of
the batch, S crop side, E embedding dimension of CLIP, Q dimension of the shared space, L classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from ovsr_gpu.runtime.async_copy import PendingInteger

if TYPE_CHECKING:
    import numpy as np
    import supervision
    from typing_extensions import Self

Number = TypeVar("Number", Tensor, float, "np.ndarray[Any, Any]")


def expected_errors(score: Number, area: Number) -> Number:
    """Return the pixels of a region that are expected to be labelled wrongly: (1 - score) x area.

    Their fraction of all pixels is the uncertainty of an image or of a run. It holds if the scores are calibrated.
    """
    return (1 - score) * area


Maps = Tensor | list[Tensor]
"""One `[B, H, W]` int32 tensor if the images came as a tensor, else a list of `[H, W]` int32 tensors."""


@dataclass(frozen=True)
class Latents:
    """SVD latents of a batch.

    Attributes:
        components: `[B, P, R]` float32, the grid cells in the space of the leading singular vectors.
        singular_values: `[B, M]` float32, descending.
        aspect: The short side of the pixel-feature matrix over its long side.
        grid: (h, w).
    """

    components: Tensor
    singular_values: Tensor
    aspect: float
    grid: tuple[int, int]


@dataclass(frozen=True)
class ClassTexts:
    """Text embeddings of the L classes: T texts, sorted by class.

    Attributes:
        embeddings: `[T, E]` float32, unit rows.
        class_index: `[T]` int64, the class of each text; L means "something else".
        num_classes: L.
    """

    embeddings: Tensor
    class_index: Tensor
    num_classes: int


@dataclass(frozen=True)
class Regions:
    """The regions of all images of a batch as flat tensors, sorted by image and by index in the image.

    The last rows may be empty slots (see `RegionTable`): area 0, box (0, 0, 1, 1), the last image of the batch.

    Attributes:
        image_index: `[N]` int64, the image of each region.
        boxes: `[N, 4]` int64, tight boxes (x0, y0, x1, y1) in pixels; x1 and y1 are exclusive.
        areas: `[N]` int64, pixels.
    """

    image_index: Tensor
    boxes: Tensor
    areas: Tensor

    def __len__(self) -> int:
        return self.image_index.shape[0]

    def counts(self, num_images: int) -> Tensor:
        """Return the number of regions of each image, `[B]` int64."""
        zeros = torch.zeros(num_images, dtype=torch.int64, device=self.image_index.device)
        return zeros.scatter_add_(0, self.image_index, (self.areas > 0).long())

    def offsets(self, num_images: int) -> Tensor:
        """Return the row of the first region of each image, `[B]` int64."""
        counts = self.counts(num_images)
        return counts.cumsum(0) - counts

    def index_in_image(self, num_images: int) -> Tensor:
        """Return the index 0..n-1 of each region in its image, as in the region map: `[N]` int64."""
        row = torch.arange(len(self), device=self.image_index.device)
        return row - self.offsets(num_images)[self.image_index]

    def spans(self, num_images: int) -> Tensor:
        """Return the half-open range [first, stop) of region-map values that each row covers, `[N, 2]` int64."""
        index = self.index_in_image(num_images)
        return torch.stack([index, index + 1], dim=1)

    def split(self, size: int) -> list[Self]:
        """Split into consecutive parts of at most `size` regions."""
        return [self.slice(start, start + size) for start in range(0, len(self), size)]

    def slice(self, start: int, stop: int) -> Self:
        """Return the regions of rows [start, stop)."""
        return self.map(lambda column: column[start:stop])

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Apply `function` to each tensor and return the result."""
        return type(self)(*(function(getattr(self, column.name)) for column in fields(self)))


@dataclass(frozen=True)
class AncestorRegions(Regions):
    """Ancestors of regions in the dendrogram: each is the union of consecutive regions of its image.

    Attributes:
        span: `[N, 2]` int64, the half-open range [first, stop) of the regions that each ancestor covers, as indices in
            its image.
    """

    span: Tensor

    def spans(self, num_images: int) -> Tensor:
        """Return `span`."""
        return self.span


RegionsT = TypeVar("RegionsT", bound=Regions)


@dataclass(frozen=True)
class RegionTable(Generic[RegionsT]):
    """The regions of a batch on the device, before the host knows how many there are.

    Attributes:
        regions: One slot for each possible region; the slots from `total` on are empty.
        total: `[]` int64, the number of regions.
    """

    regions: RegionsT
    total: Tensor


def compact_regions(regions: RegionsT, keep: Tensor, num_images: int) -> tuple[RegionTable[RegionsT], Tensor]:
    """Move the regions selected by a mask to the front of a table, in their order; the slots after them are empty.

    Args:
        regions: N regions.
        keep: `[N]` bool, the mask.
        num_images: B.

    Returns:
        The table with N slots, and the row in `regions` that each slot came from, `[N]` int64, 0 for empty slots.
    """
    slots = torch.arange(len(keep), device=keep.device)
    total = keep.sum()
    is_filled = slots < total
    target = torch.where(keep, keep.cumsum(0) - 1, len(keep))
    source = target.new_zeros(len(keep) + 1).scatter_(0, target, slots)[:-1]

    unit_box = torch.arange(4, device=keep.device) // 2  # 0, 0, 1, 1
    empty: dict[str, Any] = {"image_index": num_images - 1, "boxes": unit_box}

    def compacted(name: str) -> Tensor:
        column = getattr(regions, name)[source]
        return torch.where(is_filled.view(-1, *[1] * (column.ndim - 1)), column, empty.get(name, 0))

    return RegionTable(type(regions)(*(compacted(column.name) for column in fields(regions))), total), source


class StageOne(NamedTuple):
    """The result of stage 1 on the device, on the canvas of its batch.

    Attributes:
        region_map: `[B, H, W]` int32, the index of each pixel's region in its image.
        table: The regions.
        ancestors: Their ancestors in the dendrogram; None unless `RegionConfig.ancestors` asks for them.
        singular_values: `[B, M]` float32.
        cluster_count: `[B]` int64.
    """

    region_map: Tensor
    table: RegionTable[Regions]
    ancestors: RegionTable[AncestorRegions] | None
    singular_values: Tensor
    cluster_count: Tensor


class PendingRegions:
    """Regions and ancestors whose numbers are being copied to the host asynchronously."""

    def __init__(self, table: RegionTable[Regions], ancestors: RegionTable[AncestorRegions] | None = None) -> None:
        self._regions, self._count = table.regions, PendingInteger(table.total)
        self._ancestors = None
        if ancestors is not None:
            self._ancestors = ancestors.regions, PendingInteger(ancestors.total)

    @classmethod
    def of(cls, stage_one: StageOne) -> PendingRegions:
        """Start to copy the numbers of a result of stage 1."""
        return cls(stage_one.table, stage_one.ancestors)

    def read(self) -> tuple[Regions, AncestorRegions | None]:
        """Return regions and ancestors without empty slots; blocks until their numbers have arrived."""
        regions = self._regions.slice(0, self._count.read())
        if self._ancestors is None:
            return regions, None
        ancestors, count = self._ancestors
        return regions, ancestors.slice(0, count.read())


@dataclass(frozen=True)
class LabelledRegions(Regions):
    """Regions with the classes that stage 2 predicts for them.

    Attributes:
        class_index: `[N]` int64; L means "something else".
        score: `[N]` float32, the probability of that class.
        probabilities: `[N, L+1]` float32; the last column is "something else". Rows sum to 1, except with synonyms
            "max" or an `area_threshold` in `RecognitionConfig`.
        embeddings: `[N, E]` float32, unit length, in CLIP's own space.
    """

    class_index: Tensor
    score: Tensor
    probabilities: Tensor
    embeddings: Tensor


class Recognition(NamedTuple):
    """The result of stage 2 on the device, on the canvas of its batch.

    Attributes:
        region_map: `[B, H, W]` int32, the index of each pixel's region in its image.
        regions: The classified regions.
        class_map: `[B, H, W]` int32.
    """

    region_map: Tensor
    regions: LabelledRegions
    class_map: Tensor


@dataclass(frozen=True)
class Segmentation:
    """The result of stage 1 for a batch.

    Attributes:
        region_map: int32 indices 0..n-1 of the regions of each image, see `Maps`.
        regions: The N regions of all images.
        singular_values: `[B, M]` float32, the spectrum of each image's features.
        cluster_count: `[B]` int64, the number of clusters that the rule chose. There can be more regions (a cluster can
            have several connected components) or fewer (small components are absorbed).
        ancestors: The ancestors of the regions in the dendrogram, for stage 2; None unless `RegionConfig.ancestors`
            asks for them.
        timings: Milliseconds by stage; empty unless requested.
    """

    region_map: Maps
    regions: Regions
    singular_values: Tensor
    cluster_count: Tensor
    ancestors: AncestorRegions | None = field(default=None, kw_only=True)
    timings: dict[str, float] = field(default_factory=dict, kw_only=True)


@dataclass(frozen=True)
class Prediction(Segmentation):
    """The result of both stages for a batch.

    Attributes:
        regions: The N classified regions of all images.
        class_map: int32 indices into `classes`, see `Maps`; L = len(classes) means "something else".
        classes: The L class names.
    """

    regions: LabelledRegions
    class_map: Maps
    classes: tuple[str, ...]

    @property
    def uncertainty(self) -> Tensor:
        """The mean of 1 - score over the pixels of each image, `[B]` float32.

        If the scores are calibrated, this is the expected fraction of wrongly labelled pixels.
        """
        sums = self.regions.areas.new_zeros(2, len(self.region_map), dtype=torch.float64)
        areas = self.regions.areas.double()
        sums.index_add_(1, self.regions.image_index, torch.stack([expected_errors(self.regions.score, areas), areas]))
        return (sums[0] / sums[1]).float()

    def to_supervision(self, index: int) -> supervision.Detections:
        """Convert image `index` to supervision's Detections, see `interop.to_supervision`."""
        from ovsr_gpu.interop import to_supervision

        return to_supervision(self, index)

    def to_coco(self, index: int, image_id: int) -> list[dict[str, Any]]:
        """Convert image `index` to COCO annotations, see `interop.to_coco`."""
        from ovsr_gpu.interop import to_coco

        return to_coco(self, index, image_id)

    def to_transformers(self, index: int) -> list[dict[str, Any]]:
        """Convert image `index` to the output of transformers' image segmentation, see `interop.to_transformers`."""
        from ovsr_gpu.interop import to_transformers

        return to_transformers(self, index)
