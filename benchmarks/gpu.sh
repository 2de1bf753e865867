#!/usr/bin/env bash
# All GPU tests and the benchmarks of the whole method (how its cost grows, and every stage) and of the clustering in one
# call of under ten minutes, out of a bare checkout: nothing is installed or downloaded, and what is not there is named and
# left out.
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

# part NAME SECONDS COMMAND...: a part is interrupted ten seconds before its time is up, so that pytest still reports, and
# then killed.
part() {
    local name=$1 seconds=$2
    shift 2
    printf '\n=== %s (at most %s s)\n' "$name" "$seconds" >&2
    timeout --signal=INT --kill-after=10 $((seconds - 10)) "$@"
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
installed() {
    "$python" -c 'import sys, importlib.util as util; sys.exit(not all(map(util.find_spec, sys.argv[1:])))' "$@"
}

if [[ $device == cpu ]]; then
    echo "the benchmarks of the whole method take minutes on a CPU and are left out"
elif ! installed open_clip torchvision; then
    echo "open_clip_torch or torchvision is not installed: the whole method is left out"
else
    part "growth benchmark" 110 "$python" -m pytest benchmarks/bench_growth.py --device "$device" -q -rs \
        --results "$out/growth_$device.json"
    if installed sklearn threadpoolctl pytest_benchmark; then
        part "benchmark of every stage" 100 "$python" -m pytest benchmarks/bench_pipeline.py --device "$device" -q -rs \
            --benchmark-json "$out/pipeline_$device.json"
    else
        echo "scikit-learn, threadpoolctl or pytest-benchmark is not installed: the single stages are left out"
    fi
fi
part "clustering benchmark" 200 "$python" -m pytest benchmarks/bench_clustering.py --device "$device" --full -q -rs \
    --results "$out/clustering_$device.json" "$@"

# plot SCRIPT NAME: the picture and the tables of a benchmark that has left rows.
plot() {
    [[ ! -f $out/$2.json ]] || part "plots and tables of $2" 15 "$python" "benchmarks/$1" "$out/$2.json" > "$out/$2.md"
}

if installed matplotlib; then
    plot plot_pipeline.py "growth_$device"
    plot plot_clustering.py "clustering_$device"
else
    echo "matplotlib is not installed: no plots; elsewhere, plot_pipeline.py and plot_clustering.py draw them from the JSON"
fi

ls -l "$out"
if ((${#failed[@]})); then
    printf 'failed or out of time: %s\n' "$(IFS=,; echo "${failed[*]}")"
    exit 1
fi
echo "all parts went well"
