#!/usr/bin/env bash
# Run all tests and benchmarks on a GPU with one command, in at most 540 seconds, from a bare checkout. Nothing is
# installed or downloaded.
#
#     benchmarks/gpu.sh [--quick]
#
# --quick: only the first two parts, in at most 180 seconds.
# Environment variables: OUT, the folder of the results (default: benchmarks/results); PYTHON, the interpreter (default:
# python3); DEVICE=cpu tests this script without a GPU, on tiny sizes, with the kernels in Triton's interpreter. The tests
# marked `gpu` are skipped there.
# Exit status: 0 if all parts passed, 1 if a part failed or ran out of time, 2 if the device or an option is invalid.
set -u
cd "$(dirname "$0")/.." || exit 2
if (($# > 1)) || [[ $# == 1 && $1 != --quick ]]; then
    echo "usage: benchmarks/gpu.sh [--quick]" >&2
    exit 2
fi
device=${DEVICE:-cuda}
out=${OUT:-benchmarks/results}
python=${PYTHON:-python3}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
sizes=(--full)
if [[ $device == cpu ]]; then
    sizes=(--tiny)
    export TRITON_INTERPRET=1
fi
failed=()

# part NAME END NODE... [OPTIONS]: run a part until END, in seconds since the start of this script. The next part can use
# the time that a part does not need. Rows are written to NAME_DEVICE.json as soon as they are measured. A part stops at
# its deadline by itself; `timeout` is a safeguard.
part() {
    local name=$1 seconds=$(($2 - SECONDS))
    shift 2
    if ((seconds < 10)); then
        printf '\n=== %s: no time left\n' "$name"
        failed+=("$name")
        return
    fi
    printf '\n=== %s: at most %s s\n' "$name" "$seconds"
    timeout --kill-after=3 "$((seconds - 3))" "$python" benchmarks/isolated.py --device "$device" \
        --results "$out/${name}_$device.json" --deadline "$(($(date +%s) + seconds - 6))" "$@"
    local status=$?
    printf '=== %s: exit status %s, %s s since the start\n' "$name" "$status" "$SECONDS"
    ((status == 2)) && exit 2
    ((status == 0)) || failed+=("$name")
}

finish() {
    ls -l "$out"
    if ((${#failed[@]})); then
        printf 'failed or out of time: %s\n' "${failed[*]}"
        exit 1
    fi
    echo "all parts passed"
    exit 0
}

mkdir -p "$out"
smoke=benchmarks/smoke_kernels.py
part smoke 50 --jobs 6 --test-seconds 30 $smoke::test_{full_graph,pixel_graph,distances_of_points} \
    $smoke::test_{components,absorption,crops} $smoke::test_leading_{svd,directions} -- --device "$device"
part headline 178 --test-seconds 60 benchmarks/bench_headline.py -- --device "$device" "${sizes[@]}"
[[ ${1-} == --quick ]] && finish
mapfile -t gpu_tests < <(grep -rlE 'mark\.gpu\b|on_gpu\(' tests --include='test_*.py')
part tests 330 --jobs 4 --test-seconds 60 "${gpu_tests[@]}" -- -m gpu
part stages 410 --test-seconds 60 benchmarks/bench_pipeline.py -- --device "$device" "${sizes[@]}"
part growth 475 --test-seconds 60 benchmarks/bench_growth.py -- --device "$device" "${sizes[@]}"
part clustering 538 --test-seconds 60 benchmarks/bench_clustering.py -- --device "$device" "${sizes[@]}"
finish
