"""Where the images and label maps of a dataset are stored, and which of them form a pair."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ovsr_gpu.errors import DatasetError
from ovsr_gpu.sources.image_source import is_image_name


@dataclass(frozen=True)
class Layout:
    """The files of a dataset.

    Attributes:
        images: Pattern "FOLDER/*SUFFIX" of the images, below the folder of the dataset. The part that `*` matches is
            the name of the example, with slashes for subfolders; "FOLDER/*" matches images with any suffix.
        labels: Pattern of the label maps, likewise.
        source: Where to get the files, for messages.
        names: Text file, below the same folder, with the ordered names of the examples. None means all images and
            label maps, sorted by name.
        folders: Possible folders of the dataset, relative to the folder that the user gives.
    """

    images: str
    labels: str
    source: str
    names: str | None = None
    folders: tuple[str, ...] = (".",)

    def find(self, root: Path) -> Path:
        """Return the folder of the dataset.

        Args:
            root: The folder of the dataset, or one above it.

        Returns:
            The folder.

        Raises:
            DatasetError: There is no such folder or more than one, or a part of the dataset is missing.
        """
        candidates = [root / folder for folder in self.folders if (root / folder / self.images).parent.is_dir()]
        if len(candidates) > 1:
            first, second = map(str, candidates[:2])
            raise DatasetError(f"both {first!r} and {second!r} match the dataset; specify one of them")
        folder = candidates[0] if candidates else root
        parts = [(folder / self.images).parent, (folder / self.labels).parent]
        parts += [folder / self.names] if self.names else []
        for part in parts:
            if not part.exists():
                raise DatasetError(f"there is no {str(part)!r}; {self._expected_files(root)}")
        return folder

    def pairs(self, folder: Path, names: list[str] | None) -> Iterator[tuple[str, Path, Path]]:
        """Yield name, image and label map of each example.

        Args:
            folder: Folder of the dataset, as `find` returns it.
            names: Names of the examples to keep, in this order; None keeps all.

        Yields:
            Tuples of name, path of the image and path of the label map.

        Raises:
            DatasetError: There is no example, one of `names` is not in the dataset, or an image or label map has no
                counterpart.
        """
        images, labels = _files(folder, self.images), _files(folder, self.labels)
        all_names = read_names(folder / self.names) if self.names else sorted({*images, *labels})
        if not all_names:
            raise DatasetError(
                f"there are neither images nor label maps in {str(folder)!r}; {self._expected_files(folder)}"
            )
        if names is not None:
            _check_names(names, all_names, folder)
        for name in all_names if names is None else names:
            for kind, files, pattern in (("image", images, self.images), ("label map", labels, self.labels)):
                if name not in files:
                    raise DatasetError(
                        f"the example {name!r} has no {kind}: there is no {str(folder / _file_name(pattern, name))!r}; "
                        f"add it, or select examples with a list of names; {self._expected_files(folder)}"
                    )
            yield name, images[name], labels[name]

    def _expected_files(self, root: Path) -> str:
        folders = " or ".join(str(root / folder) for folder in self.folders)
        lines = [f"expected in {folders}:", _file_name(self.images, "NAME"), _file_name(self.labels, "NAME")]
        if self.names:
            lines.append(f"{self.names} (one NAME per line)")
        return "\n    ".join(lines) + f"\n{self.source}"


def read_names(path: Path) -> list[str]:
    """Read the names of examples from a text file.

    Args:
        path: UTF-8 text file with one name per line; empty lines are ignored.

    Returns:
        The names.

    Raises:
        DatasetError: The file cannot be read, holds no name, or holds a name twice.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"the list of names {str(path)!r} cannot be read: {error}") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DatasetError(f"the list of names {str(path)!r} is empty; write one name per line")
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DatasetError(f"the name {name!r} occurs twice in {str(path)!r}; each name may occur only once")
        seen.add(name)
    return names


def _file_name(pattern: str, name: str) -> str:
    """Return the file name of an example, with suffix `.*` where the pattern matches any suffix."""
    return pattern.replace("*", f"{name}.*" if pattern.endswith("*") else name)


def _check_names(names: list[str], all_names: list[str], folder: Path) -> None:
    allowed = set(all_names)
    unknown = [name for name in names if name not in allowed]
    if unknown:
        raise DatasetError(
            f"{len(unknown)} of the {len(names)} requested names are not in the dataset at {str(folder)!r}, the first "
            f"is {unknown[0]!r}; names have the form {all_names[0]!r}, without suffix"
        )


def _files(root: Path, pattern: str) -> dict[str, Path]:
    """Return the visible files that match a pattern of `Layout`, by the part that `*` matches."""
    start, suffix = pattern.split("*")
    folder = root / start
    paths: dict[str, Path] = {}
    for parent, _, files in os.walk(folder, followlinks=True):
        for file in files:
            path = Path(parent, file)
            relative = path.relative_to(folder).as_posix()
            if "/." in f"/{relative}" or not (file.endswith(suffix) if suffix else is_image_name(file)):
                continue
            name = relative.removesuffix(suffix) if suffix else relative[: relative.rindex(".")]
            if name in paths:
                raise DatasetError(
                    f"{str(paths[name])!r} and {str(path)!r} have the same name; remove one of them, because only one "
                    "can belong to the label map"
                )
            paths[name] = path
    return paths
