"""A folder of the user's own images, and MSRC v2 in the same format.

    images/NAME.jpg     any kind of image, subfolders allowed
    labels/NAME.png     8-bit gray or palette
    classes.txt         or classes.json

classes.txt has one class per line with its synonyms, see `read_classes_file`: the first line is label value 0, the
second is 1 and so on; 255 is void. classes.json is {"classes": [...], "void": V}: the name of each label value from 0
on, including the void value V, which is not a class.
"""

from __future__ import annotations

import json
from pathlib import Path

from ovsr_gpu.datasets.dataset import Dataset, find_examples
from ovsr_gpu.datasets.labels import LabelEncoding
from ovsr_gpu.datasets.layout import Layout
from ovsr_gpu.errors import DatasetError
from ovsr_gpu.vocabulary import Vocabulary, builtin_vocabulary, read_classes_file, read_text

_LAYOUT = Layout(
    images="images/*",
    labels="labels/*.png",
    source="The same folder holds classes.txt, one class per line (the first has label value 0), or classes.json.",
)


def open_folder(root: Path, names: list[str] | None) -> Dataset:
    """Find the examples of a folder in this format.

    Args:
        root: The folder.
        names: Names of the examples to keep, in this order; None keeps all.

    Returns:
        The dataset.

    Raises:
        DatasetError: As `open_dataset` does.
        VocabularyError: classes.txt cannot be used.
    """
    _LAYOUT.find(root)
    class_files = [path for path in (root / "classes.txt", root / "classes.json") if path.exists()]
    if len(class_files) != 1:
        state = "both are" if class_files else "neither is"
        raise DatasetError(f"exactly one of classes.txt and classes.json must be in {str(root)!r}; {state} there")
    vocabulary, encoding = (_read_classes_text if class_files[0].suffix == ".txt" else _read_classes_json)(
        class_files[0]
    )
    return Dataset("folder", vocabulary, find_examples(_LAYOUT, root, names, encoding))


def open_msrc(root: Path, names: list[str] | None) -> Dataset:
    """Find the examples of MSRC v2: 591 images, 23 classes, 0 is void, in this format with classes.json.

    The label values follow the order in which the authors of MSRC v2 list the classes.

    Args:
        root: The folder.
        names: Names of the examples to keep, in this order; None keeps all.

    Returns:
        The dataset.

    Raises:
        DatasetError: As `open_dataset` does; also if classes.json has other classes or another void value.
        VocabularyError: classes.json cannot be read.
    """
    _LAYOUT.find(root)
    vocabulary = builtin_vocabulary("msrc-23")
    listed, encoding = _read_classes_json(root / "classes.json")
    if listed.names != vocabulary.names or encoding.void != (0,):
        raise DatasetError(
            f"{str(root / 'classes.json')!r} must have the void value 0 and then {', '.join(vocabulary.names)}; "
            f"it has the void value {encoding.void[0]} and {', '.join(listed.names)}; for other classes use "
            "the dataset 'folder'"
        )
    return Dataset("msrc-23", vocabulary, find_examples(_LAYOUT, root, names, encoding), expected_size=591)


def _read_classes_text(path: Path) -> tuple[Vocabulary, LabelEncoding]:
    vocabulary = read_classes_file(path)
    if len(vocabulary) > 255:
        raise DatasetError(
            f"{str(path)!r} has {len(vocabulary)} classes; 8-bit label maps allow 255, because 255 is void"
        )
    return vocabulary, LabelEncoding(range(len(vocabulary)), void=(255,))


def _read_classes_json(path: Path) -> tuple[Vocabulary, LabelEncoding]:
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
            f'{str(path)!r} must hold {{"classes": [name of each label value from 0, at most 256], "void": the void '
            f"value}}; {type(error).__name__}: {error}"
        ) from error
    values = [value for value in range(len(names)) if value != void]
    return Vocabulary(tuple((names[value],) for value in values)), LabelEncoding(values, void=(void,))
