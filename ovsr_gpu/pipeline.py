"""OVSR on tensors, one call per stage: training-free open-vocabulary segmentation and recognition (arXiv 2510.19333).

Stage 1 segments images into regions without class names; stage 2 classifies the regions.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, replace
from functools import cached_property
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from ovsr_gpu.config import Config
from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.models.backbone import load_backbone
from ovsr_gpu.models.checkpoints import update_digest
from ovsr_gpu.models.clip import ClipModel, absolute_model_name, load_clip
from ovsr_gpu.models.dense_tower import dense_tower
from ovsr_gpu.models.network_batch import NetworkBatch, clip_dtype
from ovsr_gpu.results import AncestorRegions, ClassTexts, PendingRegions, Prediction, Recognition, Regions, StageOne
from ovsr_gpu.runtime.async_copy import PendingTensors
from ovsr_gpu.runtime.device import choose_device
from ovsr_gpu.runtime.environment import versions
from ovsr_gpu.runtime.timing import record_stages
from ovsr_gpu.stages.ancestors import append_ancestors, extract_with_ancestors, mean_over_ancestors
from ovsr_gpu.stages.clustering import cluster_count, cluster_labels, merge_tree
from ovsr_gpu.stages.confusable import ConfusablePair, confusable_pairs
from ovsr_gpu.stages.embeddings import embed_regions
from ovsr_gpu.stages.features import pixel_features
from ovsr_gpu.stages.latents import svd_latents
from ovsr_gpu.stages.merge_regions import merge_regions
from ovsr_gpu.stages.recognition import class_map, classify_regions
from ovsr_gpu.stages.regions import extract_regions
from ovsr_gpu.stages.text_embeddings import embed_vocabulary
from ovsr_gpu.vocabulary import Vocabulary


class Pipeline:
    """The stages of the method on batches that are already on the device, with both networks and their configuration.

    Calls do not modify the models, so several threads can use one pipeline. `Segmenter` is the public interface.

    Args:
        backbone: The blocks of an EfficientNet on `device`, see `load_backbone`.
        clip: The CLIP model on `device`, see `load_clip`. Both are compiled in place if `config.models.compile`.
        config: All settings of the method.
        device: The device on which the stages run.

    Raises:
        ValueError: The backbone does not have the feature levels of `config`.
        ModelError: The region encoder "dense" does not support this CLIP.
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
    def load(
        cls,
        config: Config | None = None,
        *,
        backbone_weights: str | os.PathLike[str] | None = None,
        clip: str | None = None,
        clip_weights: str | os.PathLike[str] | None = None,
        device: str | torch.device = "auto",
    ) -> Pipeline:
        """Load both networks; arguments and errors are those of `Segmenter.from_pretrained`."""
        config = config or Config()
        models = config.models
        device = choose_device(device)
        if clip is None:
            clip, clip_weights = models.clip, clip_weights or models.clip_weights
        models = replace(
            models,
            backbone_weights=os.fspath(backbone_weights or models.backbone_weights),
            clip=clip,
            clip_weights=None if clip_weights is None else os.fspath(clip_weights),
        )
        return cls(
            load_backbone(models.backbone_weights, device),
            load_clip(models.clip, models.clip_weights, device).use_precision(clip_dtype(device, models)),
            replace(config, models=models),
            device,
        )

    def segment(self, images: ImageBatch) -> StageOne:
        """Run stage 1 on the device, without a copy to the host."""
        config = self.config
        features = pixel_features(self.backbone, images, config.features, self._backbone_batch)
        latents = svd_latents(features, config.latents)
        dendrogram = merge_tree(latents, config.clustering)
        count = cluster_count(latents, dendrogram, config.clustering)
        labels = cluster_labels(latents, dendrogram, count)
        ancestors = None
        if config.regions.ancestors:
            max_clusters = config.clustering.max_clusters
            region_map, table, ancestors = extract_with_ancestors(
                labels, dendrogram, count, images, max_clusters, config.regions
            )
        else:
            region_map, table = extract_regions(labels, images, config.regions)
        return StageOne(region_map, table, ancestors, latents.singular_values, count)

    def recognize(
        self,
        images: ImageBatch,
        region_map: Tensor,
        regions: Regions,
        ancestors: AncestorRegions | None,
        texts: ClassTexts,
    ) -> Recognition:
        """Run stage 2 on the device.

        The host waits only if `config.recognition.merge_regions` is set, for the new number of regions.

        Args:
            images: The batch that the regions belong to.
            region_map: `[B, H, W]` int32.
            regions: N regions of the batch.
            ancestors: Their ancestors in the dendrogram, or None.
            texts: The class texts, see `embed_classes`.

        Returns:
            The final region map, the classified regions and the class map.
        """
        recognition = self.config.recognition
        if ancestors is None:
            embeddings = self._embed(images, region_map, regions)
        else:
            nodes = append_ancestors(regions, ancestors, len(images))
            embeddings = mean_over_ancestors(regions, nodes, self._embed(images, region_map, nodes), len(images))
        labelled = classify_regions(regions, embeddings, texts, len(images), self.clip.logit_scale, recognition)
        if recognition.merge_regions:
            region_map, labelled = merge_regions(labelled, region_map, images)
        classes = class_map(region_map, labelled.offsets(len(images)), labelled.class_index)
        return Recognition(region_map, labelled, classes)

    def begin(self, images: ImageBatch, vocabulary: Vocabulary, *, timings: bool = False) -> PendingPrediction:
        """Run stage 1 and start to copy the number of regions to the host asynchronously.

        Args:
            images: The batch, on the device.
            vocabulary: The classes.
            timings: Whether the prediction contains the milliseconds of each stage.

        Returns:
            The batch after stage 1; its `finish` runs stage 2.
        """
        return PendingPrediction(self, images, vocabulary, timings)

    def predict(self, images: ImageBatch, vocabulary: Vocabulary, *, timings: bool = False) -> Prediction:
        """Run both stages; arguments as in `begin`."""
        return self.begin(images, vocabulary, timings=timings).finish()

    def embed_classes(self, vocabulary: Vocabulary) -> ClassTexts:
        """Return the text embeddings of a vocabulary, see `embed_vocabulary`; they are cached in memory and on disk."""
        with self._texts_lock:
            if vocabulary not in self._texts:
                self._texts[vocabulary] = embed_vocabulary(self.clip, vocabulary, self.config.recognition)
            return self._texts[vocabulary]

    def confusable(self, vocabulary: Vocabulary) -> list[ConfusablePair]:
        """Return the pairs of classes that this CLIP can hardly tell apart, see `confusable_pairs`."""
        scale = self.config.recognition.effective_logit_scale(self.clip.logit_scale)
        return confusable_pairs(self.embed_classes(vocabulary), vocabulary.names, scale)

    def warm_up(self, vocabulary: Vocabulary) -> None:
        """Run both stages on random images, so that everything that is compiled at first use is compiled now.

        On a GPU this compiles the kernels, which takes seconds; with `config.models.compile` also the networks, which
        takes a minute or two.
        """
        for num_images in (2, 1):  # at the second batch size torch compiles for all sizes
            noise = torch.randint(0, 256, (num_images, 3, 64, 64), generator=torch.Generator().manual_seed(0))
            prediction = self.predict(ImageBatch.of(noise.to(torch.uint8), self.device), vocabulary)
            PendingTensors(prediction.regions.score).wait()

    def halve_batches(self) -> None:
        """Halve the batch sizes of both networks, after the device has run out of memory."""
        self._backbone_batch, self._clip_batch = self._backbone_batch.halved(), self._clip_batch.halved()

    def describe(self) -> dict[str, Any]:
        """Return what the results depend on besides the vocabulary: configuration, `identity` and versions."""
        return {"config": asdict(self.config), **self.identity, "versions": versions()}

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The identity of models and device: SHA-256 of the weights, precision of CLIP, type of device.

        "clip" contains the model name and weights that were loaded, and the `text_fingerprint` of the model.
        """
        digest = hashlib.sha256(self.clip.text_fingerprint.encode())
        for network in (self.backbone, self.clip.image_tower):
            update_digest(digest, network.state_dict())
        models = self.config.models
        return {
            "weights": digest.hexdigest(),
            "clip_precision": str(self.clip.dtype).removeprefix("torch."),
            "device": self.device.type,
            "clip": {
                "model": absolute_model_name(models.clip),
                "weights": models.clip_weights,
                "text_fingerprint": self.clip.text_fingerprint,
            },
        }

    def _embed(self, images: ImageBatch, region_map: Tensor, regions: Regions) -> Tensor:
        """Return the CLIP embeddings of the regions, `[N, E]`."""
        return embed_regions(self.clip, images, region_map, regions, self.config.regions, self._clip_batch)


class PendingPrediction:
    """A batch after stage 1, whose number of regions is being copied to the host asynchronously.

    Meanwhile the device can begin the next batch; `finish` then runs stage 2.
    """

    def __init__(self, pipeline: Pipeline, images: ImageBatch, vocabulary: Vocabulary, timings: bool) -> None:
        self._pipeline, self._images, self._vocabulary = pipeline, images, vocabulary
        self._record_timings = timings
        with torch.no_grad(), record_stages(timings) as self._timings:
            self._texts = pipeline.embed_classes(vocabulary)
            self._stage_one = pipeline.segment(images)
            self._pending = PendingRegions.of(self._stage_one)

    def finish(self) -> Prediction:
        """Run stage 2; blocks until the number of regions has arrived."""
        images, stage_one = self._images, self._stage_one
        with torch.no_grad(), record_stages(self._record_timings) as timings:
            regions, ancestors = self._pending.read()
            recognition = self._pipeline.recognize(images, stage_one.region_map, regions, ancestors, self._texts)
        return Prediction(
            images.crop_maps(recognition.region_map),
            recognition.regions,
            stage_one.singular_values,
            stage_one.cluster_count,
            images.crop_maps(recognition.class_map),
            self._vocabulary.names,
            timings=self._timings | timings,
        )
