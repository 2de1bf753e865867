"""Published evaluation protocols, as settings of this method.

"sclip" is the protocol of training-free segmentation with CLIP: SCLIP (wangf3014/SCLIP, `configs/cfg_*.py`,
`configs/cls_*.txt` and `clip_segmentor.py`). ClearCLIP (mc-lan/ClearCLIP) and ProxyCLIP (mc-lan/ProxyCLIP) use the same
form, but other thresholds for datasets with a background: 0.5 and 0.2 on voc21. The values here are those of SCLIP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

from ovsr_gpu.config import Config
from ovsr_gpu.datasets import Dataset
from ovsr_gpu.vocabulary import Vocabulary, builtin_vocabulary


@dataclass(frozen=True, kw_only=True)
class SclipSettings:
    """SCLIP's settings for one dataset; None where SCLIP does not use a threshold.

    Attributes:
        vocabulary: The built-in vocabulary with SCLIP's class names and synonyms.
        remove_spaces: SCLIP writes the class names without spaces ("trafficlight").
        logit_scale: Factor of the cosine similarities.
        prob_thd: A class with a lower probability than this becomes the background, class 0.
        area_thd: A class with at most this fraction of the foreground of an image is removed from it. Both thresholds
            are used only where class 0 is the background.
    """

    vocabulary: str
    remove_spaces: bool = False
    logit_scale: float = 40
    prob_thd: float | None = None
    area_thd: float | None = None


SCLIP: Mapping[str, SclipSettings] = MappingProxyType(
    {
        "voc20": SclipSettings(vocabulary="voc20-sclip"),
        "voc21": SclipSettings(vocabulary="voc21-sclip", logit_scale=65, prob_thd=0.1, area_thd=0.1),
        "context-59": SclipSettings(vocabulary="context-59"),
        "context-60": SclipSettings(vocabulary="context-60", logit_scale=50, prob_thd=0.1),
        "ade20k-150": SclipSettings(vocabulary="ade20k-150", remove_spaces=True),
        "coco-stuff-171": SclipSettings(vocabulary="coco-stuff-171", remove_spaces=True),
        "coco-object-81": SclipSettings(vocabulary="coco-object-81-sclip", logit_scale=50, prob_thd=0.1),
        "cityscapes-19": SclipSettings(vocabulary="cityscapes-19", remove_spaces=True),
    }
)
"""SCLIP's settings by dataset name."""

PROTOCOLS = ("sclip",)
"""Names of the protocols."""

DIFFERENCES = (
    "Taken from SCLIP's protocol: the class names and synonyms, the 80 templates, the softmax over all names with the "
    "maximum probability of a class, the logit scale and the thresholds. Not taken from it: OpenAI's CLIP ViT-B/16, "
    "the sliding window of 224 pixels over the image resized to a short side of 336, 448 or 560, and logits for each "
    "pixel. Here each region has one class, so the thresholds apply to regions, weighted by their pixels. In "
    "coco-object-81, 'bed' is only the bed; SCLIP has it among the names of the background, too."
)


def apply_protocol(name: str, config: Config, dataset: Dataset) -> tuple[Config, Dataset]:
    """Return the configuration and the dataset with the settings of a protocol; see `DIFFERENCES`.

    In the configuration only `recognition` changes, except for `merge_regions`, which changes no class. There is no
    "something else". In the dataset only the vocabulary changes: other synonyms for the same classes.

    Args:
        name: One of `PROTOCOLS`.
        config: The configuration to change.
        dataset: The dataset to change.

    Returns:
        The new configuration and the new dataset.

    Raises:
        ValueError: The protocol does not exist or has no settings for the dataset.
    """
    settings = protocol_settings(name, dataset.name)
    recognition = replace(
        config.recognition,
        templates="imagenet",
        something_else=(),
        shared_rank=None,
        shared_centered=False,
        threshold=settings.prob_thd,
        synonyms="max",
        logit_scale=settings.logit_scale,
        first_class_is_background=settings.prob_thd is not None,
        area_threshold=settings.area_thd,
    )
    vocabulary = builtin_vocabulary(settings.vocabulary)
    if settings.remove_spaces:
        synonyms = tuple(tuple(synonym.replace(" ", "") for synonym in row) for row in vocabulary.synonyms)
        vocabulary = Vocabulary(synonyms, vocabulary.names)
    return replace(config, recognition=recognition), replace(dataset, vocabulary=vocabulary)


def protocol_settings(name: str, dataset: str) -> SclipSettings:
    """Return the settings of a protocol for a dataset, by their names.

    Raises:
        ValueError: The protocol does not exist or has no settings for the dataset.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"there is no protocol {name!r}; choose one of {', '.join(PROTOCOLS)}")
    if dataset not in SCLIP:
        raise ValueError(f"the protocol {name!r} has no settings for {dataset!r}; choose one of {', '.join(SCLIP)}")
    return SCLIP[dataset]


def describe_protocol(name: str, dataset: Dataset) -> dict[str, Any]:
    """Return a protocol as a dictionary for JSON: name, settings, synonyms of the classes, `DIFFERENCES`.

    Args:
        name: One of `PROTOCOLS`.
        dataset: The dataset as `apply_protocol` returns it.

    Returns:
        The dictionary.
    """
    class_synonyms = dict(zip(dataset.vocabulary.names, dataset.vocabulary.synonyms, strict=True))
    return {
        "name": name,
        "templates": "the 80 of ImageNet",
        "synonyms": "one query for each, the maximum probability",
        **asdict(protocol_settings(name, dataset.name)),
        "class_synonyms": class_synonyms,
        "differences": DIFFERENCES,
    }
