"""Imports of the package, and installations in which Python finds the kernels."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

import pytest

import ovsr_gpu

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ["torchvision", "open_clip", "timm", "triton", "cupy", "scipy", "sklearn", "ray", "cv2"]
USE_A_KERNEL = (
    "import torch, ovsr_gpu; from ovsr_gpu.kernels.linkage import full_graph_linkage; "
    "print(ovsr_gpu.__file__, full_graph_linkage(torch.zeros(1, 3, 2), 'ward')[0].tolist())"
)


def run_python(*arguments: str, cwd: Path, executable: str = sys.executable) -> str:
    done = subprocess.run([executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "statement",
    [
        "import ovsr_gpu",
        "from ovsr_gpu import Config; Config()",
        "from ovsr_gpu import Vocabulary; Vocabulary.parse('a; b')",
        "from ovsr_gpu import Prediction, ImageError",
        "import ovsr_gpu.cli",
    ],
)
def test_import_loads_no_heavy_packages(statement, tmp_path):
    listing = f"{statement}; import sys; print([name for name in {HEAVY} if name in sys.modules])"
    assert run_python("-c", listing, cwd=tmp_path).strip() == "[]"


def test_whole_method_needs_no_scipy(tmp_path, tiny_clip, random_backbone):
    program = f"""
import sys
import torch
from ovsr_gpu import Config, FeatureConfig, Segmenter
config = Config(preset="paper", features=FeatureConfig(input_size=64, grid_size=8))
networks = dict(backbone_weights={str(random_backbone)!r}, clip={tiny_clip!r})
segmenter = Segmenter.from_pretrained(config, **networks, device="cpu")
segmenter(torch.randint(0, 255, (1, 3, 40, 40), dtype=torch.uint8), "a; b")
print([name for name in ("scipy", "sklearn", "ray", "cupy") if name in sys.modules])
"""
    assert run_python("-c", program, cwd=tmp_path).strip() == "[]"


def test_public_names_are_importable():
    for name in ovsr_gpu.__all__:
        assert getattr(ovsr_gpu, name) is not None
    assert set(ovsr_gpu.__all__) <= set(dir(ovsr_gpu))
    with pytest.raises(AttributeError, match="Segmentor"):
        ovsr_gpu.Segmentor  # noqa: B018


def test_version_equals_the_metadata():
    assert version("ovsr-gpu") == ovsr_gpu.__version__
    assert (Path(ovsr_gpu.__file__).parent / "py.typed").exists()


def test_kernels_import_in_the_checkout():
    assert str(ROOT) in run_python("-c", USE_A_KERNEL, cwd=ROOT)


@pytest.mark.slow
def test_kernels_import_in_an_installed_copy(tmp_path):
    """`pip install .` is self-contained and does not conflict with the checkout as the working directory."""
    source, target = tmp_path / "source", tmp_path / "site"
    for name in ("ovsr_gpu", "kernels"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(target), str(source)]
    pytest.importorskip("setuptools", minversion="77", reason="building without isolation needs setuptools")
    run_python(*pip, cwd=tmp_path)
    path = f"import sys; sys.path.insert(0, {str(target)!r}); "
    assert str(target) in run_python("-c", path + USE_A_KERNEL, cwd=tmp_path)
    assert (target / "ovsr_gpu" / "kernels" / "linkage" / "pixel_graph.py").exists()
    assert (target / "ovsr_gpu" / "py.typed").exists()
    installed = target / "ovsr_gpu" / "models" / "weights"
    original = ROOT / "ovsr_gpu" / "models" / "weights"
    assert [file.name for file in sorted(installed.rglob("*"))] == [file.name for file in sorted(original.rglob("*"))]
    assert not (target / "kernels").exists()
    append_path = f"import sys; sys.path.append({str(target)!r}); "
    assert str(ROOT) in run_python("-c", append_path + USE_A_KERNEL, cwd=ROOT)


def test_console_script_is_installed():
    assert (Path(sysconfig.get_path("scripts")) / "ovsr").exists() or sys.platform == "win32"
