"""Train the embedded models.

    python -m ovsr_gpu.synthetic.train ovsr_gpu/models/weights

This takes about 30 minutes on 2 cores. The same command writes the same bytes on the same machine with the same number
of threads and the same versions.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors.torch import save_file
from torch import nn

from ovsr_gpu.models.embedded import BACKBONE_FILE, CLIP_FOLDER
from ovsr_gpu.synthetic.scenes import FIRST_TRAINING_SEED, SEEN_COMBINATIONS, Scene, make_scene
from ovsr_gpu.synthetic.train_backbone import train_backbone
from ovsr_gpu.synthetic.train_clip import train_clip

NUM_BACKBONE_SCENES, NUM_CLIP_SCENES = 3000, 2500
SEED = 0


def train(out: Annotated[Path, typer.Argument(help="Folder for the weights.")]) -> None:
    """Train the embedded backbone, then the embedded CLIP on the regions that it finds."""
    torch.use_deterministic_algorithms(True)
    start = time.perf_counter()

    def report(line: str) -> None:
        typer.echo(f"{(time.perf_counter() - start) / 60:5.1f} min  {line}")

    report(f"generating {NUM_BACKBONE_SCENES + NUM_CLIP_SCENES} scenes")
    scenes = generate_scenes(FIRST_TRAINING_SEED, NUM_BACKBONE_SCENES + NUM_CLIP_SCENES)
    backbone = train_backbone(scenes[:NUM_BACKBONE_SCENES], SEED, report)
    save_weights(backbone, out / BACKBONE_FILE.name, prefix="features.")
    clip_folder = out / CLIP_FOLDER.name
    clip = train_clip(backbone, scenes[NUM_BACKBONE_SCENES:], clip_folder, SEED, report)
    save_weights(clip, clip_folder / "open_clip_model.safetensors")
    report(f"wrote {out}")


def generate_scenes(first_seed: int, count: int) -> Sequence[Scene]:
    """Generate scenes of consecutive seeds without the unseen combinations, in parallel processes.

    Args:
        first_seed: Seed of the first scene.
        count: Number of scenes.

    Returns:
        The scenes, in the order of their seeds.
    """
    make = partial(make_scene, combinations=SEEN_COMBINATIONS)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as workers:
        return list(workers.map(make, range(first_seed, first_seed + count), chunksize=32))


def save_weights(network: nn.Module, path: Path, prefix: str = "") -> None:
    """Write the weights as safetensors: tensors with two or more dimensions in float16, all others unchanged.

    Args:
        network: The network.
        path: The file to write.
        prefix: Prefix of the names of the tensors.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        f"{prefix}{key}": (tensor.half() if tensor.ndim >= 2 else tensor).contiguous()
        for key, tensor in network.state_dict().items()
    }
    save_file(state, path)


if __name__ == "__main__":
    typer.run(train)
