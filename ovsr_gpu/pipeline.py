"""The method, stage by stage: OVSR, training-free open-vocabulary segmentation and recognition (arXiv 2510.19333)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from threading import Lock

import torch
from torch import Tensor, nn

from ovsr_gpu.config import Config
from ovsr_gpu.images import ImageBatch, Picture
from ovsr_gpu.models.backbone import load_backbone
from ovsr_gpu.models.clip import ClipModel, load_clip
from ovsr_gpu.models.dense import dense_tower
from ovsr_gpu.models.device import choose_device, network_batch
from ovsr_gpu.stages.clustering import cluster_count, cluster_labels, merge_tree
from ovsr_gpu.stages.embeddings import embed_regions
from ovsr_gpu.stages.features import pixel_features
from ovsr_gpu.stages.latents import svd_latents
from ovsr_gpu.stages.recognition import class_map, name_regions
from ovsr_gpu.stages.regions import localise
from ovsr_gpu.stages.vocabulary import Vocabulary, embed_vocabulary
from ovsr_gpu.structures import Prediction, Segmentation
from ovsr_gpu.timing import record_stages

Images = Tensor | Sequence[Picture]
Classes = str | Sequence[str | Sequence[str]] | Vocabulary


class Segmenter:
    """Cuts pictures into regions and names them out of a vocabulary given in words.

    Calls only read the models, so one Segmenter may be called from several threads.

    backbone: the blocks of an EfficientNet (see `load_backbone`). clip: see `load_clip`. Both on `device`.

    Raises ValueError for feature levels that the backbone does not have, ModelError for a CLIP that the region encoder
    "dense" cannot read.
    """

    def __init__(self, backbone: nn.Sequential, clip: ClipModel, config: Config, device: torch.device) -> None:
        levels = config.features.levels
        if max(levels) >= len(backbone):
            raise ValueError(f"features.levels must be blocks of this backbone, 0 to {len(backbone) - 1}; got {levels}")
        if config.regions.encoder == "dense":
            dense_tower(clip)
        self.backbone = backbone
        self.clip = clip
        self.config = config
        self.device = device
        self._backbone_batch = config.models.batch or network_batch(device, config.features.input_size)
        self._clip_batch = config.models.batch or network_batch(device, clip.image_size)
        self._texts: dict[Vocabulary, Tensor] = {}
        self._texts_lock = Lock()

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
        """Load both networks; what is not given comes from `config.models`.

        backbone_weights: a torchvision tag of EfficientNet-B0 or a checkpoint file, of which only `features.*` is read.
        clip: an open_clip model name or `local-dir:PATH`. clip_weights: a pretrained tag of that model or a file.
        Both backbone_weights and clip may be "embedded": the small networks that come with this package, which know a
        synthetic world (`ovsr_gpu.embedded`) and are not for photographs.
        device: "auto" takes CUDA where there is one, else the CPU; "mps" has not been tried yet.

        Raises ModelError where weights cannot be found, read or fitted, saying what to do.
        """
        config = config or Config()
        models = config.models
        where = choose_device(device)
        if clip is None:
            clip, clip_weights = models.clip, clip_weights or models.clip_weights
        return cls(
            load_backbone(backbone_weights or models.backbone_weights, where),
            load_clip(clip, clip_weights, where),
            config,
            where,
        )

    def __call__(self, images: Images, classes: Classes, *, timings: bool = False) -> Prediction:
        """Both stages: `recognize(images, segment(images), classes)`."""
        batch = ImageBatch.of(images, self.device)
        vocabulary = Vocabulary.parse(classes)
        with torch.no_grad(), record_stages(timings) as clock:
            return self._recognize(batch, self._segment(batch, clock), vocabulary, clock)

    def segment(self, images: Images, *, timings: bool = False) -> Segmentation:
        """Stage 1: cut pictures into regions without naming them.

        images: `[B, 3, H, W]` uint8, or a list of `[3, H, W]` uint8 tensors, `[H, W, 3]` uint8 arrays, PIL images or
        paths of any sizes. With `timings` the result tells the milliseconds of each stage.

        Raises PictureError for a picture that cannot be read or used.
        """
        batch = ImageBatch.of(images, self.device)
        with torch.no_grad(), record_stages(timings) as clock:
            return self._segment(batch, clock)

    def recognize(
        self, images: Images, segmentation: Segmentation, classes: Classes, *, timings: bool = False
    ) -> Prediction:
        """Stage 2: name the regions of `segmentation`, which belongs to the same images.

        classes: `"dog; grass, lawn; sky"`, or a sequence of names or of tuples (name, synonym, ...), or a Vocabulary.

        Raises VocabularyError for class names that cannot be used, PictureError where images and segmentation differ.
        """
        batch = ImageBatch.of(images, self.device)
        vocabulary = Vocabulary.parse(classes)
        with torch.no_grad(), record_stages(timings) as clock:
            clock.update(segmentation.timings)
            return self._recognize(batch, segmentation, vocabulary, clock)

    def embed_classes(self, classes: Classes) -> Tensor:
        """Text embeddings of the classes: `[L+1, E]` float32, unit rows, the last one "something else".

        They are kept in memory and on disk, so a vocabulary that was embedded before costs nothing.
        """
        vocabulary = Vocabulary.parse(classes)
        with self._texts_lock:
            if vocabulary not in self._texts:
                self._texts[vocabulary] = embed_vocabulary(self.clip, vocabulary, self.config.recognition)
            return self._texts[vocabulary]

    def _segment(self, images: ImageBatch, clock: dict[str, float]) -> Segmentation:
        config = self.config
        features = pixel_features(self.backbone, images, config.features, self._backbone_batch)
        latents = svd_latents(features, config.latents)
        dendrogram = merge_tree(latents, config.clustering)
        count = cluster_count(latents, dendrogram, config.clustering)
        labels = cluster_labels(latents, dendrogram, count)
        region_map, regions = localise(labels, images, config.regions)
        return Segmentation(images.crop_maps(region_map), regions, latents.singular_values, count, timings=clock)

    def _recognize(
        self, images: ImageBatch, segmentation: Segmentation, vocabulary: Vocabulary, clock: dict[str, float]
    ) -> Prediction:
        region_map = images.pad_maps(segmentation.region_map)
        texts = self.embed_classes(vocabulary)
        embeddings = embed_regions(
            self.clip, images, region_map, segmentation.regions, self.config.regions, self._clip_batch
        )
        regions = name_regions(
            segmentation.regions, embeddings, texts, len(images), self.clip.logit_scale, self.config.recognition
        )
        classes = images.crop_maps(class_map(region_map, regions, len(images)))
        return Prediction(
            segmentation.region_map,
            regions,
            segmentation.singular_values,
            segmentation.cluster_count,
            classes,
            vocabulary.names,
            timings=clock,
        )
