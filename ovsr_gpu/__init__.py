"""Training-free open-vocabulary image segmentation and recognition, GPU-first."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ovsr_gpu.config import (
        ClusteringConfig,
        Config,
        FeatureConfig,
        LatentConfig,
        ModelConfig,
        RecognitionConfig,
        RegionConfig,
    )
    from ovsr_gpu.errors import DatasetError, ImageError, ModelError, OvsrError, VocabularyError
    from ovsr_gpu.results import LabelledRegions, Prediction, Regions, Segmentation
    from ovsr_gpu.segmenter import Segmenter
    from ovsr_gpu.vocabulary import Vocabulary

__version__ = "0.1.0"

_MODULES = {
    "Segmenter": "segmenter",
    "Config": "config",
    "FeatureConfig": "config",
    "LatentConfig": "config",
    "ClusteringConfig": "config",
    "RegionConfig": "config",
    "RecognitionConfig": "config",
    "ModelConfig": "config",
    "Vocabulary": "vocabulary",
    "Segmentation": "results",
    "Prediction": "results",
    "Regions": "results",
    "LabelledRegions": "results",
    "OvsrError": "errors",
    "ImageError": "errors",
    "VocabularyError": "errors",
    "DatasetError": "errors",
    "ModelError": "errors",
}
__all__ = [*_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'ovsr_gpu' has no attribute {name!r}")
    return getattr(import_module(f"ovsr_gpu.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
