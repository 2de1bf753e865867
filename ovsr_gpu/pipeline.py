"""The method, stage by stage: OVSR, training-free open-vocabulary segmentation and recognition (arXiv 2510.19333)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from ovsr_gpu.config import Config
from ovsr_gpu.cuda_graph import CapturedSegmenter
from ovsr_gpu.image_batch import ImageBatch, ImageLike
from ovsr_gpu.models.backbone import load_backbone
from ovsr_gpu.models.checkpoints import update_digest
from ovsr_gpu.models.clip import ClipModel, lasting_name, load_clip
from ovsr_gpu.models.dense_tower import dense_tower
from ovsr_gpu.models.network_batch import NetworkBatch, clip_dtype
from ovsr_gpu.results import AncestorRegions, ClassTexts, Cut, Named, Prediction, Regions, Segmentation
from ovsr_gpu.runtime.async_copy import PendingTensors
from ovsr_gpu.runtime.device import choose_device
from ovsr_gpu.runtime.interleave import Task, in_turns
from ovsr_gpu.runtime.timing import record_stages
from ovsr_gpu.stages.ancestors import extract_with_ancestors, mean_over_ancestors, with_ancestors
from ovsr_gpu.stages.clustering import cluster_count, cluster_labels, merge_tree
from ovsr_gpu.stages.confusable import ConfusablePair, confusable_pairs
from ovsr_gpu.stages.embeddings import embed_regions
from ovsr_gpu.stages.features import pixel_features
from ovsr_gpu.stages.latents import svd_latents
from ovsr_gpu.stages.merge_regions import merge_regions
from ovsr_gpu.stages.recognition import class_map, name_regions
from ovsr_gpu.stages.regions import extract_regions
from ovsr_gpu.stages.text_embeddings import embed_vocabulary
from ovsr_gpu.vocabulary import Vocabulary

Images = Tensor | Sequence[ImageLike] | ImageBatch
Classes = str | Sequence[str | Sequence[str]] | Vocabulary


class Segmenter:
    """Cuts images into regions and names them out of a vocabulary given in words.

    Calls only read the models, so one Segmenter may be called from several threads.

    backbone: the blocks of an EfficientNet (see `load_backbone`). clip: see `load_clip`. Both on `device`; they are
        compiled in place if `config.models.compile`.

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
        self._backbone_batch = NetworkBatch.of(config.features.input_size, device, config.models)
        self._clip_batch = NetworkBatch.of(clip.image_size, device, config.models)
        if config.models.compile:
            for network in (*backbone, clip.image_tower):
                network.compile()
        self._texts: dict[Vocabulary, ClassTexts] = {}
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
        """Load both networks; what is not given comes from `config.models`, and what was loaded stands there then.

        backbone_weights: a torchvision tag of EfficientNet-B0 or a checkpoint file, of which only `features.*` is read.
        clip: an open_clip model name or `local-dir:PATH`. clip_weights: a pretrained tag of that model or a file.
        Both backbone_weights and clip may be "embedded": the small networks that come with this package, which know a
        synthetic world (`ovsr_gpu.synthetic`) and are not for photographs.
        device: "auto" takes CUDA where there is one, else the CPU; "mps" has not been tried yet.

        Raises ModelError where weights cannot be found, read or fitted, saying what to do.
        """
        config = config or Config()
        models = config.models
        where = choose_device(device)
        if clip is None:
            clip, clip_weights = models.clip, clip_weights or models.clip_weights
        models = replace(
            models,
            backbone_weights=os.fspath(backbone_weights or models.backbone_weights),
            clip=clip,
            clip_weights=None if clip_weights is None else os.fspath(clip_weights),
        )
        return cls(
            load_backbone(models.backbone_weights, where),
            load_clip(models.clip, models.clip_weights, where).use_precision(clip_dtype(where, models)),
            replace(config, models=models),
            where,
        )

    def __call__(self, images: Images, classes: Classes, *, timings: bool = False) -> Prediction:
        """Both stages: `recognize(images, segment(images), classes)`."""
        [prediction] = in_turns([self.predict(images, classes, timings=timings)])
        return prediction

    def stream(self, batches: Iterable[Images], classes: Classes) -> Iterator[Prediction]:
        """Predictions of many batches, in their order, with one batch in flight.

        A GPU has the first stage of the next batch to do while the host reads how many regions this one has, so that
        it never stands still. Therefore a batch is taken from `batches` before the prediction of the one before it
        is given. All else is as in a call for each.
        """
        vocabulary = Vocabulary.parse(classes)
        return in_turns(self.predict(images, vocabulary) for images in batches)

    def predict(self, images: Images, classes: Classes, *, timings: bool = False) -> Task[Prediction]:
        """Both stages as a task for `in_turns`, which yields where the host would wait for the number of regions."""
        batch = ImageBatch.of(images, self.device)
        vocabulary = Vocabulary.parse(classes)
        with torch.no_grad(), record_stages(timings) as first:
            texts = self.embed_classes(vocabulary)
            found = self.cut(batch)
            late = found.late()
        yield
        with torch.no_grad(), record_stages(timings) as second:
            named = self.name(batch, found.region_map, *late.read(), texts)
        return Prediction(
            batch.crop_maps(named.region_map),
            named.regions,
            found.singular_values,
            found.cluster_count,
            batch.crop_maps(named.class_map),
            vocabulary.names,
            timings=first | second,
        )

    def segment(self, images: Images, *, timings: bool = False) -> Segmentation:
        """Stage 1: cut images into regions without naming them.

        images: `[B, 3, H, W]` uint8, or a list of `[3, H, W]` uint8 tensors, `[H, W, 3]` uint8 arrays, PIL images or
        paths of any sizes. With `timings` the result tells the milliseconds of each stage.

        Raises ImageError for an image that cannot be read or used.
        """
        batch = ImageBatch.of(images, self.device)
        with torch.no_grad(), record_stages(timings) as clock:
            found = self.cut(batch)
            regions, unions = found.late().read()
        region_map = batch.crop_maps(found.region_map)
        return Segmentation(
            region_map, regions, found.singular_values, found.cluster_count, unions=unions, timings=clock
        )

    def recognize(
        self, images: Images, segmentation: Segmentation, classes: Classes, *, timings: bool = False
    ) -> Prediction:
        """Stage 2: name the regions of `segmentation`, which belongs to the same images.

        classes: `"dog; grass, lawn; sky"`, or a sequence of names or of tuples (name, synonym, ...), or a Vocabulary.

        Raises VocabularyError for class names that cannot be used, ImageError where images and segmentation differ.
        """
        batch = ImageBatch.of(images, self.device)
        vocabulary = Vocabulary.parse(classes)
        region_map = batch.pad_maps(segmentation.region_map)
        with torch.no_grad(), record_stages(timings) as clock:
            clock.update(segmentation.timings)
            texts = self.embed_classes(vocabulary)
            named = self.name(batch, region_map, segmentation.regions, segmentation.unions, texts)
        return Prediction(
            batch.crop_maps(named.region_map),
            named.regions,
            segmentation.singular_values,
            segmentation.cluster_count,
            batch.crop_maps(named.class_map),
            vocabulary.names,
            timings=clock,
        )

    def capture(self, shape: Sequence[int], classes: Classes, *, capacity: int | None = None) -> CapturedSegmenter:
        """Record both stages as one CUDA graph for `[B, 3, H, W]` = `shape` images and one vocabulary.

        A call of what is returned launches everything at once and waits for nothing but the number of regions: for the
        least latency. The graph encodes `capacity` regions a batch, however many there are (16 an image unless given);
        where there are more, the second stage runs once more outside of it, so that none is lost.

        Raises ValueError where the device is not a CUDA device, or `config` has nested or united regions, of which the
        host must know more numbers than one.
        """
        return CapturedSegmenter(self, shape, Vocabulary.parse(classes), capacity or 16 * shape[0])

    def warm_up(self, classes: Classes) -> None:
        """Run the whole method on made images, so that whatever is compiled at its first use is compiled now.

        On a GPU these are the kernels, which takes seconds; with `config.models.compile` the networks too, which takes
        a minute or two.
        """
        for count in (2, 1):  # at the second size torch compiles for all sizes
            noise = torch.randint(0, 256, (count, 3, 64, 64), generator=torch.Generator().manual_seed(0))
            PendingTensors(self(noise.to(torch.uint8), classes).regions.score).wait()

    def embed_classes(self, classes: Classes) -> ClassTexts:
        """Text embeddings of the classes, see `embed_vocabulary`.

        They are kept in memory and on disk, so a vocabulary that was embedded before costs nothing.
        """
        vocabulary = Vocabulary.parse(classes)
        with self._texts_lock:
            if vocabulary not in self._texts:
                self._texts[vocabulary] = embed_vocabulary(self.clip, vocabulary, self.config.recognition)
            return self._texts[vocabulary]

    def confusable(self, classes: Classes) -> list[ConfusablePair]:
        """The pairs of classes that this CLIP can hardly tell apart, the closest first, see `confusable_pairs`."""
        vocabulary = Vocabulary.parse(classes)
        scale = self.config.recognition.scale(self.clip.logit_scale)
        return confusable_pairs(self.embed_classes(vocabulary), vocabulary.names, scale)

    def halve_batches(self) -> None:
        """Let half as many rows go through the networks at a time, for a device that has run out of memory."""
        self._backbone_batch, self._clip_batch = self._backbone_batch.halved(), self._clip_batch.halved()

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What the results depend on beside the config: the weights' SHA-256, CLIP's precision, the kind of device.

        "clip": by which name and weights it was loaded, and its `text_fingerprint`.
        """
        digest = hashlib.sha256(self.clip.text_fingerprint.encode())
        for network in (self.backbone, self.clip.image_tower):
            update_digest(digest, network.state_dict())
        precision = str(self.clip.dtype).removeprefix("torch.")
        models = self.config.models
        return {
            "weights": digest.hexdigest(),
            "clip_precision": precision,
            "device": self.device.type,
            "clip": {
                "model": lasting_name(models.clip),
                "weights": models.clip_weights,
                "text_fingerprint": self.clip.text_fingerprint,
            },
        }

    def cut(self, images: ImageBatch) -> Cut:
        """Stage 1 on the device alone: nothing of it comes to the host."""
        config = self.config
        features = pixel_features(self.backbone, images, config.features, self._backbone_batch)
        latents = svd_latents(features, config.latents)
        dendrogram = merge_tree(latents, config.clustering)
        count = cluster_count(latents, dendrogram, config.clustering)
        labels = cluster_labels(latents, dendrogram, count)
        unions = None
        if config.regions.ancestors:
            most = config.clustering.max_clusters
            region_map, table, unions = extract_with_ancestors(labels, dendrogram, count, images, most, config.regions)
        else:
            region_map, table = extract_regions(labels, images, config.regions)
        return Cut(region_map, table, unions, latents.singular_values, count)

    def name(
        self,
        images: ImageBatch,
        region_map: Tensor,
        regions: Regions,
        unions: AncestorRegions | None,
        texts: ClassTexts,
    ) -> Named:
        """Stage 2 on the device alone, but for the number of regions where `config.recognition.merge_regions` makes it anew.

        region_map: `[B, H, W]` int32. texts: see `embed_classes`.
        """
        recognition = self.config.recognition
        if unions is None:
            embeddings = self._embed(images, region_map, regions)
        else:
            nests = with_ancestors(regions, unions, len(images))
            embeddings = mean_over_ancestors(regions, nests, self._embed(images, region_map, nests), len(images))
        labelled = name_regions(regions, embeddings, texts, len(images), self.clip.logit_scale, recognition)
        if recognition.merge_regions:
            region_map, labelled = merge_regions(labelled, region_map, images)
        return Named(region_map, labelled, class_map(region_map, labelled.firsts(len(images)), labelled.class_index))

    def _embed(self, images: ImageBatch, region_map: Tensor, regions: Regions) -> Tensor:
        return embed_regions(self.clip, images, region_map, regions, self.config.regions, self._clip_batch)
