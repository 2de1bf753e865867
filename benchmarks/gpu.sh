#!/usr/bin/env bash
# Test and time everything on a GPU with one command, in at most 540 seconds, from a bare checkout: nothing is installed
# or downloaded.
#
#     benchmarks/gpu.sh [--quick]
#
# --quick: the first two parts only, in at most 180 seconds.
# OUT: folder of the results (benchmarks/results). PYTHON: the interpreter (python3). DEVICE=cpu tries the script where
# there is no GPU, on tiny sizes, with the kernels in Triton's interpreter; the tests marked `gpu` are skipped there.
# Exit status: 0 if every part went well, 1 if one failed or ran out of time, 2 if the device cannot be used.
set -u
cd "$(dirname "$0")/.." || exit 2
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

# part NAME END NODE... [OPTIONS]: run a part until END, in seconds since the start of this script. What a part leaves of
# its time goes to the next one. Its rows go to NAME_DEVICE.json as they are measured. The part ends by itself; `timeout`
# is there in case it cannot.
part() {
    local name=$1 seconds=$(($2 - SECONDS))
    shift 2
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
    echo "all parts went well"
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
