"""Where the images and label maps of a dataset lie on disk, and which belong together."""

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

    images and labels: "FOLDER/*SUFFIX" below the folder of the dataset. What `*` stands for is the name of the
    example, with slashes where there are subfolders; "FOLDER/*" takes any image, its suffix aside.
    source: where the files come from, for messages.
    names: the text file, below the same folder, with the names of the examples in their order. Without it all images
    and labels count, in the order of their names.
    folders: where the folder of the dataset may be below the one that the user gives.
    """

    images: str
    labels: str
    source: str
    names: str | None = None
    folders: tuple[str, ...] = (".",)

    def find(self, root: Path) -> Path:
        """The folder of the dataset, at or below `root`.

        Raises DatasetError where there is none, where there are several, or a part of it is missing.
        """
        found = [root / folder for folder in self.folders if (root / folder / self.images).parent.is_dir()]
        if len(found) > 1:
            raise DatasetError(f"both {str(found[0])!r} and {str(found[1])!r} may be meant; give one of them")
        folder = found[0] if found else root
        parts = [(folder / self.images).parent, (folder / self.labels).parent]
        parts += [folder / self.names] if self.names else []
        for part in parts:
            if not part.exists():
                raise DatasetError(f"there is no {str(part)!r}; {self._tree(root)}")
        return folder

    def pairs(self, folder: Path, names: list[str] | None) -> Iterator[tuple[str, Path, Path]]:
        """Name, image and label map of each example, of the `names` if given, in their order.

        Raises DatasetError where there is none, one of `names` is not in the dataset, or an image or label map has no
        counterpart.
        """
        images, labels = _files(folder, self.images), _files(folder, self.labels)
        known = read_names(folder / self.names) if self.names else sorted({*images, *labels})
        if not known:
            raise DatasetError(f"there are neither images nor label maps in {str(folder)!r}; {self._tree(folder)}")
        if names is not None:
            _check_known(names, known, folder)
        for name in known if names is None else names:
            for kind, files, pattern in (("image", images, self.images), ("label map", labels, self.labels)):
                if name not in files:
                    raise DatasetError(
                        f"the example {name!r} has no {kind}: there is no {str(folder / _shown(pattern, name))!r}; "
                        f"add it, or keep only the examples of a list of names; {self._tree(folder)}"
                    )
            yield name, images[name], labels[name]

    def _tree(self, root: Path) -> str:
        places = " or ".join(str(root / folder) for folder in self.folders)
        lines = [f"expected in {places}:", _shown(self.images, "NAME"), _shown(self.labels, "NAME")]
        if self.names:
            lines.append(f"{self.names} (one NAME a line)")
        return "\n    ".join(lines) + f"\n{self.source}"


def read_names(path: Path) -> list[str]:
    """The names in a text file, one a line, empty lines left out.

    Raises DatasetError where the file cannot be read, holds no name, or one twice.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"the list of names {str(path)!r} cannot be read: {error}") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DatasetError(f"the list of names {str(path)!r} is empty; write one a line")
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DatasetError(f"the name {name!r} stands twice in {str(path)!r}; a name may stand only once")
        seen.add(name)
    return names


def _shown(pattern: str, name: str) -> str:
    return pattern.replace("*", f"{name}.*" if pattern.endswith("*") else name)


def _check_known(names: list[str], known: list[str], folder: Path) -> None:
    allowed = set(known)
    unknown = [name for name in names if name not in allowed]
    if unknown:
        raise DatasetError(
            f"{len(unknown)} of the {len(names)} names asked for are not in the dataset at {str(folder)!r}, the first "
            f"is {unknown[0]!r}; a name there is like {known[0]!r}, without suffix"
        )


def _files(root: Path, pattern: str) -> dict[str, Path]:
    """The files that a pattern of `Layout` means, by what stands for its `*`; hidden ones are left out."""
    start, suffix = pattern.split("*")
    folder = root / start
    found: dict[str, Path] = {}
    for parent, _, files in os.walk(folder, followlinks=True):
        for file in files:
            path = Path(parent, file)
            relative = path.relative_to(folder).as_posix()
            if "/." in f"/{relative}" or not (file.endswith(suffix) if suffix else is_image_name(file)):
                continue
            name = relative.removesuffix(suffix) if suffix else relative[: relative.rindex(".")]
            if name in found:
                raise DatasetError(
                    f"{str(found[name])!r} and {str(path)!r} have one name; take one of them away, as only one can "
                    "belong to the label map"
                )
            found[name] = path
    return found
