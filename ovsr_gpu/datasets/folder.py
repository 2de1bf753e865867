"""A folder of one's own, and MSRC v2 in the same form.

    images/NAME.jpg     any kind of image, subfolders allowed
    labels/NAME.png     8-bit gray or palette
    classes.txt         or classes.json

classes.txt has one class a line with its synonyms, as `read_classes_file` reads it: the first line is label value 0,
the next 1 and so on; 255 is void. classes.json has {"classes": [...], "void": V}: the name of each label value from 0,
among them that of the void value V, which is no class.
"""

from __future__ import annotations

import json
from pathlib import Path

from ovsr_gpu.datasets.dataset import Dataset, find_examples
from ovsr_gpu.datasets.labels import LabelRule
from ovsr_gpu.datasets.layout import Layout
from ovsr_gpu.errors import DatasetError
from ovsr_gpu.vocabulary import Vocabulary, read_classes_file, read_text, ready_vocabulary

_LAYOUT = Layout(
    images="images/*",
    labels="labels/*.png",
    source="Beside them stands classes.txt, one class a line (label value 0 is the first), or classes.json.",
)


def open_folder(root: Path, names: list[str] | None) -> Dataset:
    """Find the examples of such a folder; raises DatasetError and VocabularyError as `open_dataset` does."""
    _LAYOUT.find(root)
    legends = [path for path in (root / "classes.txt", root / "classes.json") if path.exists()]
    if len(legends) != 1:
        state = "both are" if legends else "neither is"
        raise DatasetError(f"one of classes.txt and classes.json must be in {str(root)!r}; {state} there")
    vocabulary, rule = (_read_list if legends[0].suffix == ".txt" else _read_legend)(legends[0])
    return Dataset("folder", vocabulary, find_examples(_LAYOUT, root, names, rule))


def open_msrc(root: Path, names: list[str] | None) -> Dataset:
    """MSRC v2: 591 images, 23 classes, 0 = void, in the form above with classes.json.

    The label values follow the order in which its authors list the classes.

    Raises DatasetError also where classes.json says anything else.
    """
    _LAYOUT.find(root)
    vocabulary = ready_vocabulary("msrc-23")
    legend, rule = _read_legend(root / "classes.json")
    if legend.names != vocabulary.names or rule.void != (0,):
        raise DatasetError(
            f"{str(root / 'classes.json')!r} must have the void value 0 and then {', '.join(vocabulary.names)}; "
            f"it has void {rule.void[0]} and {', '.join(legend.names)}; other classes are read as the dataset 'folder'"
        )
    return Dataset("msrc-23", vocabulary, find_examples(_LAYOUT, root, names, rule), full_size=591)


def _read_list(path: Path) -> tuple[Vocabulary, LabelRule]:
    vocabulary = read_classes_file(path)
    if len(vocabulary) > 255:
        raise DatasetError(f"{str(path)!r} has {len(vocabulary)} classes; 8-bit label maps hold 255, and 255 is void")
    return vocabulary, LabelRule(range(len(vocabulary)), void=(255,))


def _read_legend(path: Path) -> tuple[Vocabulary, LabelRule]:
    text = read_text(path)
    try:
        content = json.loads(text)
        names, void = content["classes"], content["void"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("the classes are not a list of names")
        if type(void) is not int or not 0 <= void < len(names) <= 256:
            raise ValueError(f"void is {void!r}, with {len(names)} classes")
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f'{str(path)!r} must hold {{"classes": [name of each label value from 0, at most 256], "void": the value '
            f"that does not count}}; {type(error).__name__}: {error}"
        ) from error
    values = [value for value in range(len(names)) if value != void]
    return Vocabulary(tuple((names[value],) for value in values)), LabelRule(values, void=(void,))
