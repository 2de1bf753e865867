"""The settings under which published figures were made, for this method.

"sclip" is that of training-free segmentation with CLIP: SCLIP (wangf3014/SCLIP, `configs/cfg_*.py`, `configs/cls_*.txt`
and `clip_segmentor.py`). ClearCLIP (mc-lan/ClearCLIP) and ProxyCLIP (mc-lan/ProxyCLIP) keep its form, but set
thresholds of their own for datasets with a background, 0.5 and 0.2 on voc21: the figures here are SCLIP's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

from ovsr_gpu.config import Config
from ovsr_gpu.datasets import Dataset
from ovsr_gpu.vocabulary import Vocabulary, ready_vocabulary


@dataclass(frozen=True, kw_only=True)
class SclipSettings:
    """SCLIP's settings for one dataset.

    vocabulary: the ready vocabulary with its words; with `joined_words` it writes them without spaces ("trafficlight").
    logit_scale: the factor of the cosines. prob_thd: a class less probable than this is the background, class 0.
    area_thd: a class with no more than this fraction of what is not background in an image is dropped from it. None
    where SCLIP leaves them out; the two stand only where class 0 is the background.
    """

    vocabulary: str
    joined_words: bool = False
    logit_scale: float = 40
    prob_thd: float | None = None
    area_thd: float | None = None


SCLIP: Mapping[str, SclipSettings] = MappingProxyType(
    {
        "voc20": SclipSettings(vocabulary="voc20-sclip"),
        "voc21": SclipSettings(vocabulary="voc21-sclip", logit_scale=65, prob_thd=0.1, area_thd=0.1),
        "context-59": SclipSettings(vocabulary="context-59"),
        "context-60": SclipSettings(vocabulary="context-60", logit_scale=50, prob_thd=0.1),
        "ade20k-150": SclipSettings(vocabulary="ade20k-150", joined_words=True),
        "coco-stuff-171": SclipSettings(vocabulary="coco-stuff-171", joined_words=True),
        "coco-object-81": SclipSettings(vocabulary="coco-object-81-sclip", logit_scale=50, prob_thd=0.1),
        "cityscapes-19": SclipSettings(vocabulary="cityscapes-19", joined_words=True),
    }
)
"""By dataset."""

PROTOCOLS = ("sclip",)
"""The names that `under_protocol` knows."""

DIFFERENCES = (
    "Of SCLIP's protocol these apply: the words, 80 templates, the softmax over all words and the largest probability "
    "of a class, the scale of the logits, the thresholds. These do not: OpenAI's CLIP ViT-B/16, the resized image "
    "(short side 336, 448 or 560) seen through a sliding window of 224, logits of each pixel. Here each region has one "
    "class, so that the thresholds are for regions, by their pixels. In coco-object-81 'bed' is the bed alone, where "
    "SCLIP has it among the words of the background too."
)


def under_protocol(name: str, config: Config, dataset: Dataset) -> tuple[Config, Dataset]:
    """The settings and the dataset, with other words for its classes, as a protocol has them; see `DIFFERENCES`.

    Only `recognition` is changed, and of that all but `merge_regions`, which changes no class. There is no "something else".

    Raises ValueError for another name than those of `PROTOCOLS`, and for a dataset that the protocol has no settings
    for.
    """
    settings = settings_of(name, dataset.name)
    recognition = replace(
        config.recognition,
        templates="imagenet",
        something_else=(),
        shared_rank=None,
        shared_centered=False,
        threshold=settings.prob_thd,
        synonyms="max",
        logit_scale=settings.logit_scale,
        background=settings.prob_thd is not None,
        area_threshold=settings.area_thd,
    )
    vocabulary = ready_vocabulary(settings.vocabulary)
    if settings.joined_words:
        joined = tuple(tuple(word.replace(" ", "") for word in row) for row in vocabulary.synonyms)
        vocabulary = Vocabulary(joined, vocabulary.names)
    return replace(config, recognition=recognition), replace(dataset, vocabulary=vocabulary)


def settings_of(name: str, dataset: str) -> SclipSettings:
    """What the protocol sets for a dataset; raises ValueError as `under_protocol` does."""
    if name not in PROTOCOLS:
        raise ValueError(f"there is no protocol {name!r}; there are {', '.join(PROTOCOLS)}")
    if dataset not in SCLIP:
        raise ValueError(f"the protocol {name!r} has no settings for {dataset!r}; it has some for {', '.join(SCLIP)}")
    return SCLIP[dataset]


def describe_protocol(name: str, dataset: Dataset) -> dict[str, Any]:
    """The protocol for a result file: its name, every setting, the words of the classes and how it differs."""
    words = dict(zip(dataset.vocabulary.names, dataset.vocabulary.synonyms, strict=True))
    return {
        "name": name,
        "templates": "the 80 of ImageNet",
        "synonyms": "a query each, the largest probability",
        **asdict(settings_of(name, dataset.name)),
        "words": words,
        "differences": DIFFERENCES,
    }
