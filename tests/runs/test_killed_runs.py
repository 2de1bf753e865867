"""Runs that are killed and resumed: in the end no image is lost and none is labelled twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovsr_gpu.sources.files import find_images
from runs_helpers import assert_complete, read_jsonl, read_results

RUN = """
import sys
import time
from pathlib import Path
import numpy as np
import runs_helpers
from ovsr_gpu.sources.files import find_images
from ovsr_gpu.store import writer
writer.MAX_PART_IMAGES = int(sys.argv[3])
memory = []

def note_memory(done, total):
    with open("/proc/self/statm") as file:
        memory.append((done, int(file.read().split()[1]) * 4096))

summary = runs_helpers.label(
    runs_helpers.FakePipeline(lambda images: time.sleep(float(sys.argv[4]))), find_images([sys.argv[1]]),
    runs_helpers.VOCABULARY, Path(sys.argv[2]), batch_size=int(sys.argv[5]), resume=True,
    progress=note_memory,
)
later = memory[len(memory) // 2 :]
slope = round(np.polyfit(*zip(*later), 1)[0]) if len(later) > 1 else 0
print(summary.labelled, summary.failed, slope, memory[-1][1])
"""
LOAD = int(os.environ.get("OVSR_LOAD_IMAGES", "0"))
"""Number of images for a load test, such as 20000."""

IMAGES, EACH_BROKEN, KILLS = (LOAD, 100, 5) if LOAD else (320, 20, 3)
PARTS = 32
BATCH = IMAGES // 80
MAX_BYTES_PER_IMAGE = 1000
"""Growth of memory that a load test allows in the second half of its undisturbed run."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many small sources, some of them broken in different ways."""
    folder = tmp_path_factory.mktemp("in")
    random = np.random.default_rng(0)
    for number in range(IMAGES):
        path = folder / f"{number:05}.png"
        Image.fromarray(random.integers(0, 256, (6, 9, 3), dtype=np.uint8)).save(path)
        if number % EACH_BROKEN == 7:
            whole = path.read_bytes()
            kinds = [b"", b"no image", whole[:60], whole[:8], whole[:30] + bytes(20) + whole[50:]]
            path.write_bytes(kinds[number // EACH_BROKEN % 5])
    return folder


def start(folder: Path, out: Path) -> subprocess.Popen[str]:
    paths = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", RUN, folder, out, str(IMAGES // PARTS), "0.03", str(BATCH)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="reads its memory in /proc, and Windows has no SIGKILL"
)
def test_a_run_killed_again_and_again_ends_as_an_undisturbed_one(folder: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    undisturbed = start(folder, whole)
    random, progress = np.random.default_rng(1), []
    for _ in range(KILLS):
        run = start(folder, out)
        parts = len(list(out.glob("store/part-*")))
        while len(list(out.glob("store/part-*"))) < parts + 2:  # so that each session gets somewhere
            time.sleep(0.01)
            assert run.poll() is None
        time.sleep(random.uniform(0, 0.06))
        run.send_signal(signal.SIGKILL)
        run.communicate()
        progress.append(len(list(out.glob("store/part-*"))))
    assert progress == sorted(set(progress)) and progress[-1] < PARTS + KILLS
    bad = range(7, IMAGES, EACH_BROKEN)
    last = start(folder, out)
    (*counts, _, _), (*expected, slope, memory) = (run.communicate()[0].split() for run in (last, undisturbed))
    assert counts == expected == [str(IMAGES - len(bad)), str(len(bad))]
    print(f"{slope} bytes of memory an image, {int(memory) >> 20} MiB at the end")
    assert not LOAD or int(slope) < MAX_BYTES_PER_IMAGE
    assert read_results(out) == read_results(whole)
    names = [image.name for image in find_images([folder])]
    failed = [Path(line["path"]).stem for line in read_jsonl(out / "errors.jsonl")]
    assert failed == [f"{number:05}" for number in bad]
    assert_complete(out, [name for name in names if name not in failed])
