"""The pipeline agrees with the benchmarks' reference implementation in NumPy, SciPy, scikit-learn and Pillow.

Agreement is the fraction of equal pixels among all pixels of all images of a test, in float32: at least 99% of the
class maps and of the region maps. Single images can differ by more: if two merges of the tree, or two classes, are
equally good, one gray value of the network input decides.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from threadpoolctl import threadpool_limits

from ovsr_gpu import Config, Segmenter
from ovsr_gpu.config import ClusteringConfig, FeatureConfig, LatentConfig, RecognitionConfig, RegionConfig
from ovsr_gpu.models.backbone import load_backbone
from ovsr_gpu.models.clip import load_clip
from ovsr_gpu.pipeline import Pipeline
from ovsr_gpu.results import Prediction
from ovsr_gpu.stages.text_embeddings import embed_vocabulary
from ovsr_gpu.vocabulary import Vocabulary
from patchwork import patchwork
from reference import ReferencePipeline, ReferenceResult

CPU = torch.device("cpu")
MIN_AGREEMENT = 0.99
SIZES = [(240, 320), (333, 250), (161, 280), (300, 300), (213, 320), (128, 96)]  # height, width
VOCABULARY = Vocabulary.parse(
    "dog, hound; cat; car; grass, lawn, meadow; sky; water; red; green; stone; wool; sand; fog; house; river; moon; "
    "lamp; bread; piano; tiger; cloud; fern; rust; silk; ice; brick; coal; honey; rope; glass; snow"
)
CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
PLAIN = RecognitionConfig(templates=("{}",))
SMALL = FeatureConfig(input_size=224, grid_size=28)

STAGE_1 = {
    "full graph, complete": Config(
        features=SMALL,
        clustering=ClusteringConfig(connectivity="full", linkage="complete", count_rule="fixed", count_parameter=6),
    ),
    "full graph, average": Config(
        features=SMALL,
        clustering=ClusteringConfig(connectivity="full", linkage="average", count_rule="fixed", count_parameter=6),
    ),
    "full graph, ward": Config(features=SMALL, clustering=ClusteringConfig(connectivity="full")),
    "8-connected, one level": Config(
        features=FeatureConfig(levels=(4,), input_size=224, grid_size=20), clustering=ClusteringConfig(connectivity="8")
    ),
    "unscaled latents": Config(
        features=SMALL,
        latents=LatentConfig(rank=4, scaled=False),
        clustering=ClusteringConfig(count_rule="fixed", count_parameter=6),
    ),
    "all components": Config(
        features=SMALL,
        clustering=ClusteringConfig(count_rule="fixed", count_parameter=20),
        regions=RegionConfig(min_area=0),
    ),
    "only large components": Config(
        features=SMALL,
        clustering=ClusteringConfig(connectivity="full", count_rule="fixed", count_parameter=20),
        regions=RegionConfig(min_area=0.03),
    ),
}
COUNT_RULES = ["energy", "ratio_gap", "participation_ratio", "hard_threshold", "elbow"]
RECOGNITION = {
    "centered shared space": RecognitionConfig(templates=("{}",), shared_rank=12, shared_centered=True),
    "threshold": RecognitionConfig(templates=("{}",), threshold=0.2),
}
BOXES = [  # box, CLIP's own resize mode, background
    ("squash", "shortest", "keep"),
    ("squash", "shortest", "blur"),
    ("square", "shortest", "mean"),
    ("square", "shortest", "blur"),
    ("open_clip", "shortest", "mean"),
    ("open_clip", "longest", "blur"),
    ("open_clip", "longest", "keep"),
    ("open_clip", "squash", "mean"),
]


@dataclass(frozen=True)
class Comparison:
    """The results of both implementations for the same images and networks."""

    ours: Prediction
    reference: list[ReferenceResult]

    def assert_agree(self) -> None:
        assert self.agreement("region_map") >= MIN_AGREEMENT
        assert self.agreement("class_map") >= MIN_AGREEMENT
        counts = [result.cluster_count for result in self.reference]
        assert self.ours.cluster_count.tolist() == counts

    def agreement(self, kind: str) -> float:
        """Return the fraction of equal pixels of all images."""
        theirs = [result.class_map if kind == "class_map" else result.regions.region_map for result in self.reference]
        pairs = list(zip(getattr(self.ours, kind), theirs, strict=True))
        assert all(tuple(ours.shape) == theirs.shape for ours, theirs in pairs)
        equal = sum(int((ours.numpy() == theirs).sum()) for ours, theirs in pairs)
        return equal / sum(theirs.size for _, theirs in pairs)

    @property
    def embedding_cosines(self) -> np.ndarray:
        """Return the cosine of each region's embedding and the reference's; the regions must correspond."""
        theirs = np.concatenate([result.embeddings for result in self.reference])
        return np.sum(self.ours.regions.embeddings.numpy() * theirs, axis=1)


@pytest.fixture(scope="module", autouse=True)
def one_blas_thread():
    """Limit BLAS to one thread: NumPy's SVD of such small matrices is slower on two, especially on shared cores."""
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [patchwork(height, width, 7, rng) for height, width in SIZES]


@pytest.fixture(scope="module")
def random_clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a small ViT with random weights that distinguishes regions.

    The parts of the input that all images have in common are zero.
    """
    folder = tmp_path_factory.mktemp("random-clip")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        module = open_clip.CLIP(**CLIP)
        module.visual.class_embedding.zero_()
        module.visual.positional_embedding.zero_()
        save_file(module.state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CLIP, "preprocess_cfg": {}}))
    return f"local-dir:{folder}"


@pytest.fixture(scope="module")
def networks(random_backbone: Path, random_clip: str):
    return load_backbone(random_backbone, CPU), load_clip(random_clip, None, CPU)


def compare(networks, images: list[np.ndarray], vocabulary: Vocabulary, config: Config) -> Comparison:
    backbone, clip = networks
    prediction = Segmenter(Pipeline(backbone, clip, config, CPU))(images, vocabulary)
    reference = ReferencePipeline(backbone, clip, config, CPU)
    texts = reference.embed_texts(vocabulary.synonyms)
    return Comparison(prediction, [reference(image, texts) for image in images])


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_presets_agree(networks, images, preset):
    settings = Config(preset=preset)
    recognition = RecognitionConfig(templates=("{}",), shared_rank=settings.recognition.shared_rank)
    compared = compare(networks, images, VOCABULARY, Config(preset=preset, recognition=recognition))
    compared.assert_agree()
    assert np.median(compared.embedding_cosines) > 0.9999
    assert len(compared.ours.regions.class_index.unique()) > 1  # otherwise the class maps agree trivially


def test_text_embeddings_agree(networks):
    texts = ReferencePipeline(*networks, Config(), CPU).embed_texts(VOCABULARY.synonyms[:4])
    ours = embed_vocabulary(networks[1], Vocabulary(VOCABULARY.synonyms[:4]), RecognitionConfig())
    np.testing.assert_allclose(ours.embeddings.numpy(), texts, atol=1e-5)


@pytest.mark.parametrize("case", STAGE_1)
def test_stage_1_agrees(networks, images, case):
    compared = compare(networks, images, VOCABULARY, replace(STAGE_1[case], recognition=PLAIN))
    compared.assert_agree()
    assert compared.ours.regions.counts(len(images)).min() > 1


@pytest.mark.parametrize("rule", COUNT_RULES)
def test_count_rules_agree(networks, images, rule):
    config = Config(features=SMALL, clustering=ClusteringConfig(count_rule=rule), recognition=PLAIN)
    compare(networks, images, VOCABULARY, config).assert_agree()


@pytest.mark.parametrize("case", RECOGNITION)
def test_recognition_agrees(networks, images, case):
    compared = compare(networks, images, VOCABULARY, Config(features=SMALL, recognition=RECOGNITION[case]))
    compared.assert_agree()
    assert len(compared.ours.regions.class_index.unique()) > 1


@pytest.mark.parametrize(("box", "resize_mode", "background"), BOXES)
def test_boxes_and_backgrounds_agree(networks, random_clip, images, box, resize_mode, background):
    backbone, _ = networks
    clip = load_clip(random_clip, None, CPU)
    clip.resize_mode, clip.fill_color = resize_mode, 90
    regions = RegionConfig(box=box, background=background)
    config = Config(features=SMALL, regions=regions, recognition=PLAIN)
    compared = compare((backbone, clip), images, VOCABULARY, config)
    compared.assert_agree()
    assert compared.embedding_cosines.min() > 0.999


def test_images_of_one_color_agree(networks):
    images = [np.full((40, 70, 3), (200, 30, 90), np.uint8), np.zeros((33, 20, 3), np.uint8)]
    compared = compare(networks, images, VOCABULARY, Config(recognition=PLAIN))
    assert compared.agreement("region_map") == compared.agreement("class_map") == 1
    assert compared.ours.cluster_count.tolist() == [1, 1]


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_photographs_with_real_networks_agree(assets, preset):
    networks = (
        load_backbone(assets / "effnet" / "efficientnet_b0_finetuned.pth", CPU),
        load_clip(f"local-dir:{assets / 'clip' / 'effb0_msrc'}", None, CPU),
    )
    photographs = assets / "msrc_v2"
    legend = json.loads((photographs / "classes.json").read_text())
    vocabulary = Vocabulary.parse([name for value, name in enumerate(legend["classes"]) if value != legend["void"]])
    names = (photographs / "heldout_100.txt").read_text().split()[::13]
    images = [np.asarray(Image.open(photographs / "images" / f"{name}.png").convert("RGB")) for name in names]
    compared = compare(networks, images, vocabulary, Config(preset=preset))
    compared.assert_agree()
    assert len(compared.ours.regions.class_index.unique()) > 3
