"""What passes between the stages, and what the user gets back.

Shape letters: B images, H, W pixels, h, w grid, P = h*w, C channels, M = min(P, C), R rank, K clusters, N regions of
the batch, S crop side, E CLIP width, Q projected width, L classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from ovsr_gpu.runtime.async_copy import PendingInteger

if TYPE_CHECKING:
    import supervision
    from typing_extensions import Self

Maps = Tensor | list[Tensor]
"""One `[B, H, W]` int32 tensor where the images came as a tensor, else a list of `[H, W]` int32 tensors."""


@dataclass(frozen=True)
class Latents:
    """SVD latents of a batch.

    components: `[B, P, R]` float32, the pixels in the space of the leading singular vectors.
    singular_values: `[B, M]` float32, descending. aspect: the short side of the pixel-feature matrix over the long.
    grid: h, w.
    """

    components: Tensor
    singular_values: Tensor
    aspect: float
    grid: tuple[int, int]


@dataclass(frozen=True)
class ClassTexts:
    """What stands for the L classes in CLIP's space: T texts, in the order of their classes.

    embeddings: `[T, E]` float32, unit rows. class_index: `[T]` int64, L means "something else". classes: L.
    """

    embeddings: Tensor
    class_index: Tensor
    classes: int


@dataclass(frozen=True)
class Regions:
    """The regions of all images of a batch, flat; those of one image stand together in the order of their numbers.

    image_index: `[N]` int64. areas: `[N]` int64, pixels.
    boxes: `[N, 4]` int64, tight (x0, y0, x1, y1) in pixels, x1 and y1 exclusive.

    The last slots may be empty (see `RegionTable`): an area of zero, the box (0, 0, 1, 1) of the last image.
    """

    image_index: Tensor
    boxes: Tensor
    areas: Tensor

    def __len__(self) -> int:
        return self.image_index.shape[0]

    def counts(self, images: int) -> Tensor:
        """Number of regions of each of the `images` images: `[B]` int64."""
        none = torch.zeros(images, dtype=torch.int64, device=self.image_index.device)
        return none.scatter_add_(0, self.image_index, (self.areas > 0).long())

    def firsts(self, images: int) -> Tensor:
        """Place of the first region of each of the `images` images: `[B]` int64."""
        counts = self.counts(images)
        return counts.cumsum(0) - counts

    def numbers(self, images: int) -> Tensor:
        """Number 0..n-1 of each region in its image: `[N]` int64."""
        place = torch.arange(len(self), device=self.image_index.device)
        return place - self.firsts(images)[self.image_index]

    def spans(self, images: int) -> Tensor:
        """The numbers of its image that are each region's, the first and the one after the last: `[N, 2]` int64."""
        numbers = self.numbers(images)
        return torch.stack([numbers, numbers + 1], dim=1)

    def split(self, size: int) -> list[Self]:
        """Runs of at most `size` regions."""
        return [self.run(start, start + size) for start in range(0, len(self), size)]

    def run(self, start: int, stop: int) -> Self:
        """Those from `start` on, before `stop`."""
        return self.each(lambda column: column[start:stop])

    def each(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same with each of its tensors changed."""
        return type(self)(*(change(getattr(self, column.name)) for column in fields(self)))


@dataclass(frozen=True)
class AncestorRegions(Regions):
    """Regions that lie inside one another: unions of others.

    span: `[N, 2]` int64, the numbers in its image of the regions that each unites, first and one after the last.
    """

    span: Tensor

    def spans(self, images: int) -> Tensor:
        """`span`, whatever the number of images."""
        return self.span


Kind = TypeVar("Kind", bound=Regions)


@dataclass(frozen=True)
class RegionTable(Generic[Kind]):
    """The regions of a batch on the device, before the host knows how many there are.

    regions: with a slot for every region that there could be; from slot `total` on they are empty.
    total: `[]` int64.
    """

    regions: Kind
    total: Tensor


def wanted_first(regions: Kind, wanted: Tensor, images: int) -> tuple[RegionTable[Kind], Tensor]:
    """A table with the `wanted` `[N]` bool of N regions in front, in their order, and empty slots after them.

    The second result says where each slot's region was, `[N]` int64, 0 for empty slots.
    """
    slots = torch.arange(len(wanted), device=wanted.device)
    total = wanted.sum()
    taken = slots < total
    place = torch.where(wanted, wanted.cumsum(0) - 1, len(wanted))
    origin = place.new_zeros(len(wanted) + 1).scatter_(0, place, slots)[:-1]

    unit_box = torch.arange(4, device=wanted.device) // 2  # 0, 0, 1, 1
    empty: dict[str, Any] = {"image_index": images - 1, "boxes": unit_box}

    def moved(name: str) -> Tensor:
        column = getattr(regions, name)[origin]
        return torch.where(taken.view(-1, *[1] * (column.ndim - 1)), column, empty.get(name, 0))

    return RegionTable(type(regions)(*(moved(column.name) for column in fields(regions))), total), origin


class StageOne(NamedTuple):
    """What stage 1 leaves on the device, on the canvas of its batch.

    region_map: `[B, H, W]` int32. ancestors: None unless `RegionConfig.ancestors` asks for them.
    singular_values: `[B, M]` float32. cluster_count: `[B]` int64.
    """

    region_map: Tensor
    table: RegionTable[Regions]
    ancestors: RegionTable[AncestorRegions] | None
    singular_values: Tensor
    cluster_count: Tensor


class PendingRegions:
    """Regions and ancestors without their empty slots; their numbers are on their way to the host."""

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
        """Return regions and ancestors; blocks until their numbers have arrived."""
        regions = self._regions.run(0, self._count.read())
        if self._ancestors is None:
            return regions, None
        ancestors, count = self._ancestors
        return regions, ancestors.run(0, count.read())


@dataclass(frozen=True)
class LabelledRegions(Regions):
    """Regions with what stage 2 says of them.

    class_index: `[N]` int64, L means "something else". score: `[N]` float32, the probability of that class.
    probabilities: `[N, L+1]` float32, the last column is "something else"; they sum to 1 but where
        `RecognitionConfig` has synonyms "max" or an `area_threshold`. embeddings: `[N, E]` float32, unit length,
        in CLIP's own space.
    """

    class_index: Tensor
    score: Tensor
    probabilities: Tensor
    embeddings: Tensor


class Recognition(NamedTuple):
    """What stage 2 leaves on the device, on the canvas of its batch.

    region_map, class_map: `[B, H, W]` int32.
    """

    region_map: Tensor
    regions: LabelledRegions
    class_map: Tensor


@dataclass(frozen=True)
class Segmentation:
    """Stage 1 of a batch.

    region_map: int32 numbers 0..n-1 of each image's regions, see `Maps`.
    singular_values: `[B, M]` float32, the spectrum. cluster_count: `[B]` int64, the clusters the rule chose (the
        regions can be more, where a cluster falls apart, or fewer, where small ones are absorbed).
    ancestors: those of the regions in the dendrogram, for stage 2, where `RegionConfig.ancestors` asks for them.
    timings: milliseconds by stage, empty unless asked for.
    """

    region_map: Maps
    regions: Regions
    singular_values: Tensor
    cluster_count: Tensor
    ancestors: AncestorRegions | None = field(default=None, kw_only=True)
    timings: dict[str, float] = field(default_factory=dict, kw_only=True)


@dataclass(frozen=True)
class Prediction(Segmentation):
    """Both stages of a batch.

    class_map: int32 indices into `classes`, L = len(classes) for "something else", see `Maps`.
    classes: the L class names.
    """

    regions: LabelledRegions
    class_map: Maps
    classes: tuple[str, ...]

    @property
    def uncertainty(self) -> Tensor:
        """Of each image the mean of 1 - score over its pixels: `[B]` float32.

        It is the fraction of them that is named wrongly, if the scores are as often right as they say.
        """
        of_images = self.regions.areas.new_zeros(2, len(self.region_map), dtype=torch.float64)
        areas = self.regions.areas.double()
        of_images.index_add_(1, self.regions.image_index, torch.stack([(1 - self.regions.score) * areas, areas]))
        return (of_images[0] / of_images[1]).float()

    def to_supervision(self, index: int) -> supervision.Detections:
        """Image `index` as supervision's Detections, see `convert.to_supervision`."""
        from ovsr_gpu.interop import to_supervision

        return to_supervision(self, index)

    def to_coco(self, index: int, image_id: int) -> list[dict[str, Any]]:
        """Image `index` as COCO annotations, see `convert.to_coco`."""
        from ovsr_gpu.interop import to_coco

        return to_coco(self, index, image_id)

    def to_transformers(self, index: int) -> list[dict[str, Any]]:
        """Image `index` as transformers' image segmentation gives it, see `convert.to_transformers`."""
        from ovsr_gpu.interop import to_transformers

        return to_transformers(self, index)
