"""Segmenter, the public interface of the method: images of any kind in, predictions out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from ovsr_gpu.captured_segmenter import CapturedSegmenter
from ovsr_gpu.config import Config
from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.models.clip import ClipModel
from ovsr_gpu.pipeline import PendingPrediction, Pipeline
from ovsr_gpu.results import ClassTexts, PendingRegions, Prediction, Segmentation
from ovsr_gpu.runtime.interleave import delayed
from ovsr_gpu.runtime.timing import record_stages
from ovsr_gpu.sources.images import ImageLike, load_image_batch
from ovsr_gpu.stages.confusable import ConfusablePair
from ovsr_gpu.vocabulary import Vocabulary

Images = Tensor | Sequence[ImageLike] | ImageBatch
Classes = str | Sequence[str | Sequence[str]] | Vocabulary


class Segmenter:
    """Open-vocabulary segmenter: divides images into regions and assigns each region to one of the given classes.

    Calls do not modify the models, so several threads can use one Segmenter.

    Args:
        pipeline: The networks with their configuration, see `from_pretrained`.

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

        Arguments that are None are read from `config.models`. Afterwards `self.config.models` holds the models that
        were loaded.

        Args:
            config: All settings of the method; by default the preset "default".
            backbone_weights: A torchvision tag of EfficientNet-B0 or a checkpoint file, of which only `features.*` is
                read. "embedded" loads the small network of this package.
            clip: An open_clip model name or `local-dir:PATH`. "embedded" loads the small CLIP of this package. Both
                embedded models are trained on synthetic scenes (`ovsr_gpu.synthetic`) and do not work on photographs.
            clip_weights: A pretrained tag of that model or a file.
            device: A torch device. "auto" selects CUDA if available, else the CPU. "mps" is untested.

        Returns:
            The Segmenter.

        Raises:
            ModelError: Weights are missing, unreadable or do not fit the architecture; the message says what to do.
            ValueError: The device is unknown or not available.
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
        """The CLIP model."""
        return self.pipeline.clip

    @property
    def config(self) -> Config:
        """All settings, including the models that were loaded."""
        return self.pipeline.config

    @property
    def device(self) -> torch.device:
        """The device of both networks."""
        return self.pipeline.device

    def __call__(self, images: Images, classes: Classes, *, timings: bool = False) -> Prediction:
        """Run both stages, like `recognize(images, segment(images), classes)`.

        Args:
            images: See `segment`.
            classes: See `recognize`.
            timings: Whether the result contains the milliseconds of each stage.

        Returns:
            Regions, region maps and class maps of the images.

        Raises:
            ImageError: An image cannot be read or used.
            VocabularyError: A class name cannot be used.
        """
        batch = load_image_batch(images, self.device)
        return self.pipeline.predict(batch, Vocabulary.parse(classes), timings=timings)

    def stream(self, batches: Iterable[Images], classes: Classes) -> Iterator[Prediction]:
        """Yield the predictions of many batches, in order.

        Stage 1 of the next batch starts before stage 2 of the current one, so that the GPU computes while the host
        waits for the number of regions. The next batch is therefore read from `batches` before the prediction of the
        current one is yielded. The results are the same as with one call per batch.

        Args:
            batches: Batches of images, see `segment`.
            classes: See `recognize`.

        Yields:
            One prediction per batch.

        Raises:
            ImageError: An image cannot be read or used.
            VocabularyError: A class name cannot be used.
        """
        vocabulary = Vocabulary.parse(classes)
        pending = (self.pipeline.begin(load_image_batch(images, self.device), vocabulary) for images in batches)
        yield from map(PendingPrediction.finish, delayed(pending, 1))

    def segment(self, images: Images, *, timings: bool = False) -> Segmentation:
        """Run stage 1: segment images into regions without class names.

        Args:
            images: A `[B, 3, H, W]` uint8 tensor, or a list of `[3, H, W]` uint8 tensors, `[H, W, 3]` uint8 arrays, PIL
                images or paths; the images of a list can have any sizes.
            timings: Whether the result contains the milliseconds of each stage.

        Returns:
            Regions and region maps of the images.

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
        """Run stage 2: classify the regions of `segmentation`.

        Args:
            images: The images of `segmentation`, see `segment`.
            segmentation: The result of `segment` for these images.
            classes: A string such as `"dog; grass, lawn; sky"`, a sequence of class names or of tuples (name, synonym,
                ...), or a Vocabulary.
            timings: Whether the result contains the milliseconds of each stage.

        Returns:
            Regions, region maps and class maps of the images.

        Raises:
            VocabularyError: A class name cannot be used.
            ImageError: `segmentation` belongs to other images.
        """
        batch = load_image_batch(images, self.device)
        vocabulary = Vocabulary.parse(classes)
        region_map = batch.pad_maps(segmentation.region_map)
        with torch.no_grad(), record_stages(timings) as milliseconds:
            texts = self.pipeline.embed_classes(vocabulary)
            recognition = self.pipeline.recognize(
                batch, region_map, segmentation.regions, segmentation.ancestors, texts
            )
        return Prediction(
            batch.crop_maps(recognition.region_map),
            recognition.regions,
            segmentation.singular_values,
            segmentation.cluster_count,
            batch.crop_maps(recognition.class_map),
            vocabulary.names,
            timings=segmentation.timings | milliseconds,
        )

    def capture(self, shape: Sequence[int], classes: Classes, *, capacity: int | None = None) -> CapturedSegmenter:
        """Capture both stages as one CUDA graph, for the lowest latency.

        A call of the result launches the whole graph and waits only for the number of regions. The graph always encodes
        `capacity` regions per batch. If a batch has more, stage 2 runs again outside the graph, so that no region is
        lost.

        Args:
            shape: The shape of the images, (B, 3, H, W).
            classes: See `recognize`.
            capacity: Number of regions per batch; by default 16 per image.

        Returns:
            A callable for images of that shape.

        Raises:
            ValueError: The device is not a CUDA device, or `config` sets `regions.ancestors` or
                `recognition.merge_regions`, which copy more values to the host.
        """
        return CapturedSegmenter(self.pipeline, shape, Vocabulary.parse(classes), capacity or 16 * shape[0])

    def warm_up(self, classes: Classes) -> None:
        """Compile everything that is compiled at first use, see `Pipeline.warm_up`."""
        self.pipeline.warm_up(Vocabulary.parse(classes))

    def embed_classes(self, classes: Classes) -> ClassTexts:
        """Return the text embeddings of the classes; they are cached in memory and on disk."""
        return self.pipeline.embed_classes(Vocabulary.parse(classes))

    def confusable(self, classes: Classes) -> list[ConfusablePair]:
        """Return the pairs of classes that this CLIP can hardly tell apart, closest first."""
        return self.pipeline.confusable(Vocabulary.parse(classes))
