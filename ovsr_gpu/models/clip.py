"""Load a CLIP model of open_clip, and encode images and texts with it."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import interpolate, normalize

from ovsr_gpu.errors import ModelError
from ovsr_gpu.kernels.crop_resize import Normalisation
from ovsr_gpu.models.checkpoints import checkpoint_errors, update_digest
from ovsr_gpu.models.downloads import fetch
from ovsr_gpu.models.embedded import CLIP_FOLDER, EMBEDDED

TEXT_BATCH_SIZE = 256

MIN_COSINE = 0.98
"""Minimum cosine between embeddings of an image in two precisions; rounding errors alone stay above it."""

BPE_FILE = "bpe_merges.txt.gz"
"""File in a model folder with BPE merges that replace those of open_clip's tokenizer."""

_LOCAL_DIR = "local-dir:"
_LOCAL_HINT = (
    "to use a local folder with open_clip_config.json and weights, pass clip='local-dir:DIR' or --clip local-dir:DIR; "
    "to use a local weights file, pass clip_weights=PATH or --clip-weights PATH"
)


class ClipModel:
    """A CLIP model in eval mode, without gradients; safe to call from several threads.

    Attributes:
        name: The name given to `load_clip`.
        device: Device of the model.
        dtype: dtype of the image tower: float32 unless `use_precision` was called. The text tower is always float32.
        image_size: Side of the square input, in pixels.
        normalisation: Mean and standard deviation of pixels in [0, 1].
        mean_color: RGB color in [0, 255] that is normalized to zero, rounded to float32.
        resize_mode: "shortest", "longest" or "squash", from the model's preprocessing.
        fill_color: Gray level in [0, 255] of the padding, from the model's preprocessing.
        logit_scale: Factor of the cosines (the exponential of the stored parameter).
        context_length: Maximum number of tokens of a prompt.
    """

    def __init__(
        self,
        name: str,
        module: Any,  # open_clip's model classes have no common type beyond nn.Module
        tokenizer: Any,
        device: torch.device,
        text_settings: Mapping[str, Any],
    ) -> None:
        preprocess = module.visual.preprocess_cfg
        height, width = _pair(preprocess["size"])
        if height != width:
            raise ModelError(f"CLIP {name!r} takes images of {height}x{width}; only square inputs are supported")
        self.name = name
        self.device = device
        self.image_size: int = height
        self.dtype = torch.float32
        self.normalisation = Normalisation(tuple(preprocess["mean"]), tuple(preprocess["std"]))
        self.mean_color: list[float] = (255 * torch.tensor(self.normalisation.mean)).tolist()
        self.resize_mode: str = preprocess["resize_mode"]
        self.fill_color: int = preprocess["fill_color"]
        self._module = module.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
        self.logit_scale = float(module.logit_scale.exp())
        self.context_length: int = tokenizer.context_length
        self._tokenizer = tokenizer
        self._text_settings = text_settings
        self._fingerprint = ""
        self._fingerprint_lock = Lock()
        self._text_lock = Lock()

    @property
    def image_tower(self) -> nn.Module:
        """The image tower, a module of open_clip."""
        return self._module.visual

    def use_precision(self, dtype: torch.dtype) -> ClipModel:
        """Convert the image tower to another dtype.

        Args:
            dtype: float32, float16 or bfloat16.

        Returns:
            This object.

        Raises:
            ModelError: The embedding of a test image differs from that in float32, because activations overflow.
        """
        patches = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        probe = interpolate(patches, (self.image_size, self.image_size)).to(self.device)
        expected = self.encode_image(probe)
        self._module.visual.to(dtype)
        self.dtype = dtype
        cosine = float((expected * self.encode_image(probe)).sum(1).min())
        if not cosine >= MIN_COSINE:  # also true for NaN
            raise ModelError(
                f"CLIP {self.name!r} cannot be run in {dtype}: its embedding of a test image has a cosine of "
                f"{cosine:.3f} with that in float32; set models.clip_precision to 'bfloat16' or 'float32'"
            )
        return self

    @torch.no_grad()
    def encode_image(self, pixels: Tensor) -> Tensor:
        """Embed images.

        Args:
            pixels: `[N, 3, S, S]` normalized images on `device`, S = `image_size`.

        Returns:
            `[N, E]` float32 unit vectors.
        """
        pixels = pixels.to(self.dtype, memory_format=torch.channels_last)
        return normalize(self._module.encode_image(pixels).float(), dim=1)

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Embed prompts.

        Args:
            prompts: T prompts; one that exceeds `context_length` is truncated.

        Returns:
            `[T, E]` float32 unit vectors on `device`.
        """
        batches = (self._tokenizer(list(batch)).to(self.device) for batch in _batches(prompts))
        return torch.cat([self._encode_tokens(tokens).float() for tokens in batches])

    def _encode_tokens(self, tokens: Tensor) -> Tensor:
        """Return the embeddings `[T, E]` of tokens `[T, context_length]`.

        With causal attention, the padding after the longest prompt has no effect and is dropped: prompts are short,
        which makes this much faster.
        """
        from open_clip import CLIP

        module = self._module
        if type(module) is not CLIP or module.attn_mask is None or module.text_pool_type not in ("argmax", "eos"):
            return module.encode_text(tokens, normalize=True)
        length = int((tokens != 0).any(0).nonzero()[-1]) + 1  # a 0 within a prompt is a token (an exclamation mark)
        truncated = {
            "positional_embedding": module.positional_embedding[:length],
            "attn_mask": module.attn_mask[:length, :length],
        }
        with self._text_lock:  # functional_call swaps the tensors into the module while it runs
            return functional_call(module, truncated, (None, tokens[:, :length]))[1]

    def exceeds_context_length(self, prompts: Sequence[str]) -> list[bool]:
        """Return for each prompt whether it needs more than `context_length` tokens."""
        tokens = self._tokenizer(list(prompts))
        untruncated = self._tokenizer(list(prompts), context_length=4 * self.context_length)
        return (tokens != untruncated[:, : self.context_length]).any(1).tolist()

    @property
    def text_fingerprint(self) -> str:
        """Hexadecimal SHA-256 of everything that text embeddings depend on: weights, tokenizer and its settings."""
        with self._fingerprint_lock:
            if not self._fingerprint:
                self._fingerprint = self._hash_text_tower()
            return self._fingerprint

    def _hash_text_tower(self) -> str:
        digest = hashlib.sha256(json.dumps(self._text_settings, sort_keys=True).encode())
        state = self._module.state_dict()
        update_digest(digest, {key: tensor for key, tensor in state.items() if not key.startswith("visual.")})
        return digest.hexdigest()


def absolute_model_name(name: str) -> str:
    """Return a name for `load_clip` that does not depend on the working directory."""
    folder = name.removeprefix(_LOCAL_DIR)
    return name if folder == name else f"{_LOCAL_DIR}{os.path.abspath(folder)}"


def load_clip(name: str, weights: str | os.PathLike[str] | None, device: torch.device) -> ClipModel:
    """Load a CLIP model.

    Args:
        name: One of

            - an open_clip model name;
            - `local-dir:DIR`, a folder with open_clip_config.json, the weights and, if the model has its own, the BPE
              merges of open_clip's tokenizer (`BPE_FILE`);
            - `embedded`, the model that comes with this package.
        weights: For an open_clip model name, a pretrained tag or the path of a checkpoint (.safetensors, or a file that
            `torch.load(weights_only=True)` reads). For a folder, a tag is ignored.
        device: Device of the model.

    Returns:
        The CLIP model.

    Raises:
        ModelError: The model or the tag is unknown, or the weights cannot be found or read or do not fit the model.
    """
    if name == EMBEDDED:
        return _load_folder(name, CLIP_FOLDER, weights, device)
    if name.startswith(_LOCAL_DIR):
        return _load_folder(name, Path(name.removeprefix(_LOCAL_DIR)), weights, device)
    return _load_named(name, weights, device)


def _load_folder(name: str, folder: Path, weights: str | os.PathLike[str] | None, device: torch.device) -> ClipModel:
    if weights is not None and Path(weights).is_file():
        raise ModelError(f"{name} has its own weights; omit clip_weights (got {os.fspath(weights)!r})")
    files = [file for file in folder.glob("*") if file.suffix in {".safetensors", ".bin", ".pth"}]
    if not (folder / "open_clip_config.json").is_file() or not files:
        raise ModelError(
            f"{name} is not a model folder: expected open_clip_config.json and a .safetensors, .bin or .pth file in it"
        )
    return _create(name, files[0] if len(files) == 1 else folder, device, {}, folder)


def _load_named(name: str, weights: str | os.PathLike[str] | None, device: torch.device) -> ClipModel:
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg, is_pretrained_cfg

    if name not in open_clip.list_models():
        matches = difflib.get_close_matches(name, open_clip.list_models(), n=5, cutoff=0.4)
        raise ModelError(
            f"open_clip has no model {name!r}; similar names: {', '.join(matches) or 'none'} "
            f"(python -c 'import open_clip; print(open_clip.list_models())' lists all); {_LOCAL_HINT}"
        )
    _prepare_tokenizer(name)
    tags = open_clip.list_pretrained_tags_by_model(name)
    if isinstance(weights, str) and is_pretrained_cfg(name, weights):
        settings = get_pretrained_cfg(name, weights)
        path = _tag_file(name, weights, settings)
    elif weights is not None and Path(weights).is_file():
        # A file does not state its preprocessing; the settings that all tags of the model share are the best guess.
        settings = _common_settings([get_pretrained_cfg(name, tag) for tag in tags])
        path = Path(weights)
    else:
        problem = "none were given" if weights is None else f"{os.fspath(weights)!r} is neither a file nor a tag"
        raise ModelError(
            f"CLIP {name!r} needs weights, but {problem}; its tags: {', '.join(tags) or 'none'}; {_LOCAL_HINT}"
        )
    return _create(name, path, device, settings)


def _create(
    name: str, source: Path, device: torch.device, settings: Mapping[str, Any], folder: Path | None = None
) -> ClipModel:
    """Create the model with the weights of `source`: a file, or the `folder` in which open_clip chooses one.

    `settings` hold the preprocessing and the activation function of the training, as far as they are known.
    """
    import open_clip

    quick_gelu = settings.get("quick_gelu", False)
    open_clip_name = name if folder is None else f"{_LOCAL_DIR}{folder}"
    merges = folder / BPE_FILE if folder is not None and (folder / BPE_FILE).is_file() else None
    with checkpoint_errors(source, f"CLIP {name!r}"):
        module = open_clip.create_model(
            open_clip_name,
            pretrained=str(source) if folder is None else None,
            force_quick_gelu=quick_gelu,
            force_preprocess_cfg=settings,
            pretrained_text=False,
            require_pretrained=True,
        )
        tokenizer = open_clip.get_tokenizer(open_clip_name, **({"bpe_path": str(merges)} if merges else {}))
        config = open_clip.get_model_config(open_clip_name)
    text_settings = {
        "text_cfg": config["text_cfg"],
        "quick_gelu": quick_gelu or config.get("quick_gelu", False),
        "tokenizer": type(tokenizer).__name__,
        "merges": hashlib.sha256(merges.read_bytes()).hexdigest() if merges else "",
        "context_length": tokenizer.context_length,
    }
    return ClipModel(name, module, tokenizer, device, text_settings)


def _tag_file(name: str, tag: str, settings: Mapping[str, Any]) -> Path:
    """Return the file of a pretrained tag from the cache of Hugging Face; download it if it is absent."""
    from huggingface_hub.constants import ENDPOINT, HF_HUB_CACHE
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
    from open_clip.pretrained import download_pretrained

    repository, _, filename = settings["hf_hub"].rpartition("/")
    if filename:
        safe_filename = Path(filename).with_suffix(".safetensors").name
    else:
        safe_filename, filename = HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
    if path := _cached(repository, safe_filename) or _cached(repository, filename):
        return path
    return Path(
        fetch(
            lambda: download_pretrained(settings),
            missing=f"{safe_filename} (or {filename}) of CLIP {name!r}, tag {tag!r},",
            url=f"{ENDPOINT}/{repository}",
            remedy=f"copy {HF_HUB_CACHE} from a machine that has downloaded it, or: {_LOCAL_HINT}",
        )
    )


def _prepare_tokenizer(name: str) -> None:
    """Make the tokenizer available if the model has one from the Hugging Face hub."""
    import open_clip
    from huggingface_hub import hf_hub_download
    from huggingface_hub.constants import ENDPOINT

    text = open_clip.get_model_config(name)["text_cfg"]
    repository = text.get("hf_tokenizer_name") or text.get("hf_model_name")
    if not repository:
        return
    if importlib.util.find_spec("transformers") is None:
        raise ModelError(f"the text tower of CLIP {name!r} needs the package transformers: pip install transformers")
    if not _cached(repository, "tokenizer_config.json"):
        fetch(
            lambda: hf_hub_download(repository, "tokenizer_config.json"),
            missing=f"the tokenizer of CLIP {name!r}",
            url=f"{ENDPOINT}/{repository}",
            remedy="use a model with open_clip's own tokenizer, such as ViT-B-16",
        )


def _common_settings(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the settings that are equal in all mappings."""
    first, *others = settings or [{}]
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}


def _cached(repository: str, filename: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repository, filename)
    return Path(path) if isinstance(path, str) else None


def _batches(prompts: Sequence[str]) -> Iterator[Sequence[str]]:
    return (prompts[start : start + TEXT_BATCH_SIZE] for start in range(0, len(prompts), TEXT_BATCH_SIZE))


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
