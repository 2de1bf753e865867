#!/usr/bin/env bash
# All GPU tests and the benchmarks of the whole method and of the clustering in one call of under ten minutes, out of a
# bare checkout: nothing is installed or downloaded, and what is not there is named and left out.
#
#     benchmarks/gpu.sh [options of pytest for the clustering benchmark, such as -k "pixel and 28x28"]
#
# OUT: folder of the results (benchmarks/results). PYTHON: the interpreter (python3). DEVICE=cpu tries the script where
# there is no GPU; the GPU tests and the Triton entries are then skipped, and the whole method is left out.
# Ends with 0 where every part went well, 1 where one failed or ran out of time, 2 where nothing could be run.
set -u
cd "$(dirname "$0")/.." || exit 2
device=${DEVICE:-cuda}
out=${OUT:-benchmarks/results}
python=${PYTHON:-python3}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
failed=()

# part NAME SECONDS COMMAND...: after its time a part is interrupted, so that pytest still reports, and then killed.
part() {
    local name=$1 seconds=$2
    shift 2
    printf '\n=== %s (at most %s s)\n' "$name" "$seconds" >&2
    timeout --signal=INT --kill-after=10 "$seconds" "$@"
    local status=$?
    printf '=== %s: exit status %s after %s s in all\n' "$name" "$status" "$SECONDS" >&2
    ((status == 0)) || failed+=("$name")
}

"$python" - "$device" <<'CHECK' || exit 2
import platform, sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

print("python", platform.python_version(), "on", platform.platform())
for package in ("torch", "triton", "cupy-cuda13x", "numpy", "scipy", "scikit-learn", "fastcluster", "pytest",
                "pytest-benchmark", "hypothesis", "matplotlib", "open_clip_torch", "torchvision"):
    try:
        print(package, version(package))
    except PackageNotFoundError:
        print(package, "is not installed")
missing = [package for package in ("torch", "numpy", "scipy", "pytest") if find_spec(package) is None]
if missing:
    sys.exit(f"cannot run without {', '.join(missing)}: pip install {' '.join(missing)}")
import torch

if sys.argv[1].startswith("cuda"):
    if not torch.cuda.is_available():
        sys.exit("torch finds no CUDA device; DEVICE=cpu tries the script without one")
    print(torch.cuda.get_device_name(), "with CUDA", torch.version.cuda)
CHECK

mkdir -p "$out"
mapfile -t gpu_tests < <(grep -rlE 'mark\.gpu\b' tests --include='test_*.py')
part "GPU tests" 150 "$python" -m pytest -m gpu -q -rs --continue-on-collection-errors \
    "${gpu_tests[@]}"
if [[ $device == cpu ]]; then
    echo "the benchmark of the whole method takes minutes on a CPU and is left out"
elif "$python" -c 'import open_clip, torchvision, sklearn, threadpoolctl, pytest_benchmark' 2>/dev/null; then
    part "benchmark of the whole method" 100 "$python" -m pytest benchmarks/bench_pipeline.py --device "$device" -q -rs \
        --benchmark-json "$out/pipeline_$device.json"
else
    echo "open_clip_torch, torchvision, scikit-learn or pytest-benchmark is not installed: the whole method is left out"
fi
part "clustering benchmark" 270 "$python" -m pytest benchmarks/bench_clustering.py --device "$device" --full -q -rs \
    --results "$out/clustering_$device.json" "$@"
if "$python" -c 'import matplotlib' 2>/dev/null; then
    part "plot and tables" 30 "$python" benchmarks/plot_clustering.py "$out/clustering_$device.json" \
        > "$out/clustering_$device.md"
else
    echo "matplotlib is not installed: no plot; elsewhere, python benchmarks/plot_clustering.py draws it from the JSON"
fi

ls -l "$out"
if ((${#failed[@]})); then
    printf 'failed or out of time: %s\n' "$(IFS=,; echo "${failed[*]}")"
    exit 1
fi
echo "all parts went well"
