"""Stage timings."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ovsr_gpu.runtime.timing import record_stages, stage


@stage("nap")
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def test_the_times_of_a_stage_add_up():
    assert nap(0.0) == 0.0
    with record_stages() as timings:
        nap(0.02)
        nap(0.03)
    nap(0.05)
    assert list(timings) == ["nap"]
    assert timings["nap"] >= 50


def test_nothing_is_recorded_if_disabled():
    with record_stages(False) as timings:
        nap(0.0)
    assert timings == {}


def test_threads_record_separately():
    def timed(seconds: float) -> float:
        with record_stages() as timings:
            nap(seconds)
        return timings["nap"]

    with ThreadPoolExecutor(2) as pool:
        slow, fast = pool.map(timed, [0.3, 0.0])
    assert slow >= 300 > fast


def test_an_error_ends_the_recording():
    with pytest.raises(RuntimeError), record_stages():
        raise RuntimeError
    with record_stages(False) as timings:
        nap(0.0)
    assert timings == {}
