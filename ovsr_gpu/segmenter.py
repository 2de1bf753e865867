"""Segmenter, the public face of the method: images of any kind in, predictions out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from ovsr_gpu.captured_segmenter import CapturedSegmenter
from ovsr_gpu.config import Config
from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.models.clip import ClipModel
from ovsr_gpu.pipeline import Pipeline
from ovsr_gpu.results import ClassTexts, PendingRegions, Prediction, Segmentation
from ovsr_gpu.runtime.interleave import delayed
from ovsr_gpu.runtime.timing import record_stages
from ovsr_gpu.sources.images import ImageLike, load_image_batch
from ovsr_gpu.stages.confusable import ConfusablePair
from ovsr_gpu.vocabulary import Vocabulary

Images = Tensor | Sequence[ImageLike] | ImageBatch
Classes = str | Sequence[str | Sequence[str]] | Vocabulary


class Segmenter:
    """Segments images into regions and names each region from a vocabulary of class names.

    Calls only read the models, so several threads may share one Segmenter.

    Args:
        pipeline: The networks with their configuration; `from_pretrained` makes it.

    Example:
        >>> segmenter = Segmenter.from_pretrained()
        >>> prediction = segmenter(["a.jpg"], "dog; grass, lawn; sky")
        >>> prediction.class_map[0]  # [H, W] int32
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline

    @classmethod
    def from_pretrained(
        cls,
        config: Config | None = None,
        *,
        backbone_weights: str | os.PathLike[str] | None = None,
        clip: str | None = None,
        clip_weights: str | os.PathLike[str] | None = None,
        device: str | torch.device = "auto",
    ) -> Segmenter:
        """Load both networks.

        What is not given comes from `config.models`; `self.config.models` then says what was loaded.

        Args:
            config: All settings of the method; the preset "default" if left out.
            backbone_weights: A torchvision tag of EfficientNet-B0 or a checkpoint file, of which only `features.*` is
                read. "embedded" loads the small network of this package.
            clip: An open_clip model name or `local-dir:PATH`. "embedded" loads the small CLIP of this package. Both
                embedded models know a synthetic world (`ovsr_gpu.synthetic`) and are not for photographs.
            clip_weights: A pretrained tag of that model or a file.
            device: "auto" takes CUDA where there is one, else the CPU. "mps" has not been tried yet.

        Raises:
            ModelError: Weights cannot be found, read or fitted; the message says what to do.
            ValueError: The device is unknown or not there.
        """
        return cls(
            Pipeline.load(
                config, backbone_weights=backbone_weights, clip=clip, clip_weights=clip_weights, device=device
            )
        )

    @property
    def backbone(self) -> nn.Sequential:
        """The blocks of EfficientNet."""
        return self.pipeline.backbone

    @property
    def clip(self) -> ClipModel:
        """CLIP."""
        return self.pipeline.clip

    @property
    def config(self) -> Config:
        """All settings, with the models that were loaded."""
        return self.pipeline.config

    @property
    def device(self) -> torch.device:
        """The device of both networks."""
        return self.pipeline.device

    def __call__(self, images: Images, classes: Classes, *, timings: bool = False) -> Prediction:
        """Run both stages: `recognize(images, segment(images), classes)`.

        Args:
            images: See `segment`.
            classes: See `recognize`.
            timings: Whether the result holds the milliseconds of each stage.
        """
        batch = load_image_batch(images, self.device)
        return self.pipeline.predict(batch, Vocabulary.parse(classes), timings=timings)

    def stream(self, batches: Iterable[Images], classes: Classes) -> Iterator[Prediction]:
        """Yield the predictions of many batches, in their order.

        Stage 1 of a batch starts before stage 2 of the batch before it, so that the GPU computes while the host waits
        for the number of regions. Therefore a batch is taken from `batches` before the prediction of the batch before
        it is yielded. Everything else is as in one call per batch.
        """
        vocabulary = Vocabulary.parse(classes)
        begun = (self.pipeline.begin(load_image_batch(images, self.device), vocabulary) for images in batches)
        for batch in delayed(begun, 1):
            yield batch.finish()

    def segment(self, images: Images, *, timings: bool = False) -> Segmentation:
        """Run stage 1: segment images into regions without names.

        Args:
            images: `[B, 3, H, W]` uint8, or a list of `[3, H, W]` uint8 tensors, `[H, W, 3]` uint8 arrays, PIL images
                or paths of any sizes.
            timings: Whether the result holds the milliseconds of each stage.

        Raises:
            ImageError: An image cannot be read or used.
        """
        batch = load_image_batch(images, self.device)
        with torch.no_grad(), record_stages(timings) as milliseconds:
            stage_one = self.pipeline.segment(batch)
            regions, ancestors = PendingRegions.of(stage_one).read()
        return Segmentation(
            batch.crop_maps(stage_one.region_map),
            regions,
            stage_one.singular_values,
            stage_one.cluster_count,
            ancestors=ancestors,
            timings=milliseconds,
        )

    def recognize(
        self, images: Images, segmentation: Segmentation, classes: Classes, *, timings: bool = False
    ) -> Prediction:
        """Run stage 2: name the regions of `segmentation`.

        Args:
            images: Those that `segmentation` belongs to, see `segment`.
            segmentation: The result of `segment`.
            classes: `"dog; grass, lawn; sky"`, or a sequence of names or of tuples (name, synonym, ...), or a
                Vocabulary.
            timings: Whether the result holds the milliseconds of each stage.

        Raises:
            VocabularyError: Class names cannot be used.
            ImageError: `segmentation` belongs to other images.
        """
        batch = load_image_batch(images, self.device)
        vocabulary = Vocabulary.parse(classes)
        region_map = batch.pad_maps(segmentation.region_map)
        with torch.no_grad(), record_stages(timings) as milliseconds:
            texts = self.pipeline.embed_classes(vocabulary)
            found = self.pipeline.recognize(batch, region_map, segmentation.regions, segmentation.ancestors, texts)
        return Prediction(
            batch.crop_maps(found.region_map),
            found.regions,
            segmentation.singular_values,
            segmentation.cluster_count,
            batch.crop_maps(found.class_map),
            vocabulary.names,
            timings=segmentation.timings | milliseconds,
        )

    def capture(self, shape: Sequence[int], classes: Classes, *, capacity: int | None = None) -> CapturedSegmenter:
        """Record both stages as one CUDA graph, for the lowest latency.

        A call of the result launches everything at once and waits only for the number of regions. The graph encodes
        `capacity` regions a batch, however many there are; where there are more, stage 2 runs once more outside of the
        graph, so that no region is lost.

        Args:
            shape: `[B, 3, H, W]`, the shape of the images.
            classes: See `recognize`.
            capacity: Regions a batch; 16 an image unless given.

        Raises:
            ValueError: The device is not a CUDA device, or `config` has `regions.ancestors` or
                `recognition.merge_regions`, for which the host must read more than one number.
        """
        return CapturedSegmenter(self.pipeline, shape, Vocabulary.parse(classes), capacity or 16 * shape[0])

    def warm_up(self, classes: Classes) -> None:
        """Compile everything that is compiled at its first use, see `Pipeline.warm_up`."""
        self.pipeline.warm_up(Vocabulary.parse(classes))

    def embed_classes(self, classes: Classes) -> ClassTexts:
        """Return the text embeddings of the classes; known ones come from memory or disk."""
        return self.pipeline.embed_classes(Vocabulary.parse(classes))

    def confusable(self, classes: Classes) -> list[ConfusablePair]:
        """Return the pairs of classes that this CLIP can hardly tell apart, the closest first."""
        return self.pipeline.confusable(Vocabulary.parse(classes))
