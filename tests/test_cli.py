"""The command line, with small or random networks of the real architectures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ovsr_gpu.cli import main
from ovsr_gpu.runtime.atomic import TEMPORARY_SUFFIX
from runs_helpers import assert_complete, read_jsonl

SCRIPT = Path(sys.executable).with_name("ovsr.exe" if os.name == "nt" else "ovsr")
COMMAND = [str(SCRIPT)] if SCRIPT.exists() else [sys.executable, "-m", "ovsr_gpu.cli"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """No network, caches of its own, one thread, and the checkout importable where nothing is installed."""
    home = str(tmp_path_factory.mktemp("home"))
    root = str(Path(__file__).resolve().parents[1])
    own = {"HOME": home, "XDG_CACHE_HOME": home, "TORCH_HOME": home, "HF_HOME": home, "HF_HUB_OFFLINE": "1"}
    return {**os.environ, **own, "OMP_NUM_THREADS": "1", "PYTHONPATH": root, "PYTHONUTF8": "1"}


@pytest.fixture(scope="module")
def models(random_backbone: Path, tiny_clip: str) -> list[str]:
    """Options for an EfficientNet-B0 with random weights and a very small CLIP."""
    return ["--backbone-weights", str(random_backbone), "--clip", tiny_clip, "--device", "cpu"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(3):
        small = Image.fromarray(random.integers(0, 256, (3, 3, 3), dtype=np.uint8))
        small.resize((60 + 10 * number, 50), Image.Resampling.NEAREST).save(folder / f"photo {number}.png")
    return folder


def ovsr(arguments: Sequence[object], environment: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, encoding="utf-8", timeout=120)


@pytest.mark.skipif(not SCRIPT.exists(), reason="ovsr-gpu is not installed beside this Python: no console script")
def test_the_console_script_runs(environment: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run([str(SCRIPT), "--version"], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("ovsr 0.")


def test_help_loads_no_network_code(environment: dict[str, str], tmp_path: Path) -> None:
    done = ovsr(["--help"], environment, tmp_path)
    assert done.returncode == 0 and all(name in done.stdout for name in ("label", "demo", "info"))
    code = (
        "import sys, ovsr_gpu.cli as cli\n"
        "try: cli.app(['label', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'torchvision', 'open_clip', 'PIL', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert "--classes-file" in done.stdout and done.stdout.endswith("[]\n")


def test_info_says_what_can_run(environment: dict[str, str], tmp_path: Path) -> None:
    weights = Path(environment["TORCH_HOME"]) / "hub" / "checkpoints" / "some_network.pth"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"0" * 1_500_000)
    done = ovsr(["info"], environment, tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    rows = {line.strip().split("  ")[0]: line.strip() for line in done.stdout.splitlines()}
    assert rows["torch"].endswith(torch.__version__.split("+")[0]) and rows["python"].endswith(sys.version.split()[0])
    assert rows["torch cpu"].endswith("can run") and "cannot" not in rows["torch cpu"]
    if not torch.cuda.is_available():
        assert "cannot run: " in rows["torch cuda"] and "cannot run: " in rows["triton kernels"]
    assert "1.5 MB" in rows["some_network.pth"] and "checkpoints" in rows["some_network.pth"]


def test_a_run_with_a_bad_image(
    environment: dict[str, str],
    models: list[str],
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (images / "broken [bold].jpg").write_text("no image")
    arguments = ["label", "in", "--out", "out", "--classes", "dog; grass, lawn; sky", *models, "--batch-size", 2]
    done = ovsr(arguments, environment, tmp_path)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines() == [
        "Running on cpu (1 threads)",
        "Loading the models",
        "Encoding 3 class names (known ones are read from the cache)",
        "This CLIP can hardly tell apart 'grass' and 'sky'; 'dog' and 'grass'; 'dog' and 'sky'. Make such classes "
        "synonyms of one class, or give them other prompts",
        "Labelling 4 images",
    ]
    assert "3 of 4 images labelled" in done.stdout and "images/s" in done.stdout
    assert "broken [bold].jpg" in done.stdout and "not an image" in done.stdout and "Fraction of area" in done.stdout
    assert_complete(tmp_path / "out", ["photo 0", "photo 1", "photo 2"])
    [error] = read_jsonl(tmp_path / "out" / "errors.jsonl")
    assert Path(error["path"]) == Path("in/broken [bold].jpg")
    monkeypatch.chdir(tmp_path)
    for command in (["gallery", "out"], ["export", "out", "--format", "voc", "--out", "voc"]):
        monkeypatch.setattr(sys, "argv", ["ovsr", *command])
        with pytest.raises(SystemExit, match="0"):
            main()
    said = capsys.readouterr().out
    assert "Open out" in said and "Wrote the results of out to voc" in said
    assert len(list((tmp_path / "out/gallery/thumbnails").iterdir())) == 3
    assert len(list((tmp_path / "voc/SegmentationClass").iterdir())) == 3
    (images / "broken [bold].jpg").unlink()
    arguments += ["--overwrite", "--preset", "paper", "--shard", "2/2"]
    assert ovsr(arguments, environment, tmp_path).returncode == 0
    assert_complete(tmp_path / "out", ["photo 1"])


def test_compiled_networks_give_the_same_labels(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], images: Path, tmp_path: Path
) -> None:
    """Traced by torch's compiler but run as traced: its code generator would take half a minute."""
    compiled = []
    compile_network = torch.nn.Module.compile

    def trace(network: torch.nn.Module) -> None:
        compiled.append(network)
        compile_network(network, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", trace)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    arguments = ["label", "in", "--classes", "red disc; grass", "--model", "embedded", "--device", "cpu", "--out"]
    for out, options in (("plain", []), ("compiled", ["--compile"])):
        monkeypatch.setattr(sys, "argv", ["ovsr", *arguments, out, *options])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        assert ("Warming up" in capsys.readouterr().err) == bool(options) == bool(compiled)
    assert len(compiled) == 7  # six blocks and a CLIP
    for number in range(3):
        plain, traced = (tmp_path / out / f"labels/photo {number}.png" for out in ("plain", "compiled"))
        assert plain.read_bytes() == traced.read_bytes()


BASE = ["label", "in", "--out", "out"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*BASE], "--classes"),
        (["label", "nowhere", "--out", "out", "--classes", "dog"], "nowhere"),
        ([*BASE, "--out", "mine", "--classes", "dog"], "--overwrite"),
        ([*BASE, "--classes", "dog", "--classes-file", "f.txt"], "--classes"),
        ([*BASE, "--classes", ""], "class"),
        ([*BASE, "--vocabulary", "voc20", "--classes", "dog"], "--vocabulary"),
        ([*BASE, "--vocabulary", "imagenet"], "coco-80"),
        ([*BASE, "--classes", "dog", "--shard", "5/4"], "--shard must be I/N"),
        ([*BASE, "--classes", "dog", "--threshold", "2"], "recognition.threshold"),
        ([*BASE, "--classes", "dog", "--resume", "--overwrite"], "either resumed or overwritten"),
        ([*BASE, "--classes", "dog", "--outputs", "labels, pdf"], "no output 'pdf'"),
        ([*BASE, "--classes", "dog", "--something-else", "a; ;b"], "recognition.something_else"),
        ([*BASE, "--classes", "dog", "--min-area", "50"], "regions.min_area"),
        ([*BASE, "--classes", "dog", "--engine", "spark"], "local or ray"),
        ([*BASE, "--classes", "dog", "--engine", "ray", "--devices", "cuda:1"], "cpu or cuda repeated once per worker"),
        ([*BASE, "--classes", "dog", "--devices", "cpu,abacus"], "abacus"),
        (["export", "in", "--format", "csv", "--out", "new"], "labelme"),
        (["gallery", "in"], "not the folder of a run"),
        (["search", "in", "dog"], "not the folder of a run"),
        ([*BASE, "--classes", "dog; dog"], "'dog'"),
        ([*BASE, "--classes-file", "latin1.txt"], "latin1.txt"),
        ([*BASE, "--classes-file", "missing.txt"], "missing.txt"),
        ([*BASE, "--classes", "dog", "--batch-size", "0"], "--batch-size"),
        ([*BASE, "--classes", "dog", "--device", "abacus"], "abacus"),
        ([*BASE, "--classes", "dog", "--preset", "best"], "best"),
        ([*BASE, "--classes", "dog", "--device", "cpu", "--gpu-decode"], "CUDA device, got 'cpu'"),
        (["label", "in", "--out", "latin1.txt", "--classes", "dog"], "latin1.txt"),
        ([*BASE, "--classes", "dog", "--backbone-weights", "missing.pth"], "missing.pth"),
        ([*BASE, "--classes", "dog", "--backbone-weights", "missing.pth"], "ovsr demo"),
        ([*BASE, "--classes", "dog", "--backbone-weights", "missing.pth"], "--model embedded"),
        ([*BASE, "--classes", "dog", "--model", "large"], "'embedded'"),
        ([*BASE, "--classes", "dog", "--model", "embedded", "--clip", "ViT-B-16"], "--clip"),
        (["demo", "--scenes", "0"], "1..200"),
        (["demo", "--scenes", "201"], "1..200"),
        (["demo", "--out", "in"], "choose another folder"),
        (["demo", "--out", "latin1.txt"], "choose another folder"),
        (["demo", "--json", "latin1.txt/scores.json"], "latin1.txt"),
        (["demo", "--device", "abacus"], "abacus"),
    ],
)
def test_a_bad_argument_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    images: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    (tmp_path / "latin1.txt").write_bytes("café".encode("latin-1"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "coco.json").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ovsr", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith(("Running on", "Loading"))]
    assert ended.value.code == 2 and len(said) == 1 and said[0].startswith("ovsr: ") and message in said[0]


def test_bad_usage(environment: dict[str, str], tmp_path: Path) -> None:
    done = ovsr(["label", "in"], environment, tmp_path)
    assert done.returncode == 2 and "--out" in done.stderr and "Traceback" not in done.stderr


def test_two_processes_and_other_outputs(
    environment: dict[str, str], models: list[str], images: Path, tmp_path: Path
) -> None:
    chosen = ["--outputs", "labels, webdataset", "--something-else", "", "--min-area", 0.3]
    arguments = ["label", "in", "--out", "out", "--classes", "dog; sky", *models[:-1], "cpu,cpu", *chosen]
    done = ovsr(arguments, environment, tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(line for line in done.stderr.splitlines() if "Loading" in line) == ["cpu: Loading the models"] * 2
    config = json.loads((tmp_path / "out" / "run.json").read_text())["config"]
    assert (config["recognition"]["something_else"], config["regions"]["min_area"]) == ([], 0.3)
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert {"labels/photo 0.png", "shards/000000.tar", "summary.json"} < written
    assert not written & {"coco.json", "regions.jsonl", "overlays/photo 0.jpg"}
    for number in range(3):
        with Image.open(tmp_path / "out" / "labels" / f"photo {number}.png") as labels:
            assert np.asarray(labels).max() < 2


@pytest.mark.skipif(os.name == "nt", reason="SIGINT cannot be sent to a single process on Windows")
@pytest.mark.parametrize(("sent", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_run_that_is_ended_leaves_valid_results(
    environment: dict[str, str], models: list[str], images: Path, tmp_path: Path, sent: str, status: int
) -> None:
    one = images / "photo 0.png"
    for number in range(500):
        (images / f"{number:03}.png").write_bytes(one.read_bytes())
    out = tmp_path / "out"
    command = [*COMMAND, "label", "in", "--out", "out", "--classes", "dog; sky", *models, "--batch-size", "2"]
    # A shell may have started these tests with SIGINT ignored, which a child would inherit.
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 100
    while not list(out.glob("labels/*.png")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(getattr(signal, sent))
    _, said = process.communicate(timeout=60)
    assert process.returncode == status and "Traceback" not in said, said
    assert "Finishing the images in progress" in said and "--resume continues the run" in said.splitlines()[-1]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["interrupted"] and 0 < summary["labelled"] < 503
    assert_complete(out, [f"{number:03}" for number in range(summary["labelled"])])
    assert not list(out.rglob(f"*{TEMPORARY_SUFFIX}"))
