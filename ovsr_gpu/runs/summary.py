"""What a run came to, counted while it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from ovsr_gpu.export.record import Array, LabelledPicture
from ovsr_gpu.runs.store import Failure, Store
from ovsr_gpu.sources.loading import LoadedBatch
from ovsr_gpu.stages.vocabulary import SOMETHING_ELSE, Vocabulary

SHOWN_FAILURES = 5

Item = TypeVar("Item")
Outcome = LabelledPicture | Failure


@dataclass(frozen=True)
class RunSummary:
    """What a run came to.

    labelled, failed: pictures, those of earlier sessions of the run among them, of which there were `resumed`.
    decoded_on_device: pictures of this session that were decoded on a GPU.
    seconds: wall time of this session without loading the models; pictures_per_second: in it. time_shares: for what
        it waited in that time: "disk", "decoding", "models", and "writing" with all the rest; these go on side by
        side, so each share is what the others did not cover, and the largest is the bottleneck.
    area_shares: share of all labelled pixels, by class name. failures: the first few.
    interrupted: whether pictures are left.
    """

    labelled: int
    failed: int
    resumed: int
    regions: int
    decoded_on_device: int
    seconds: float
    pictures_per_second: float
    time_shares: dict[str, float]
    area_shares: dict[str, float]
    failures: tuple[Failure, ...]
    interrupted: bool


@dataclass
class Tally:
    """The running counts of a run."""

    areas: Array
    labelled: int = 0
    failed: int = 0
    resumed: int = 0
    regions: int = 0
    failures: list[Failure] = field(default_factory=list)
    last_failure: str = ""
    decoded_on_device: int = 0
    stopped: bool = False
    waited: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("disk", "decoding", "models"), 0.0))
    start: float = field(default_factory=time.perf_counter)

    @classmethod
    def of(cls, store: Store, vocabulary: Vocabulary) -> Tally:
        """The counts of what a store has."""
        tally = cls(np.zeros(len(vocabulary) + 1, np.int64))
        for regions in store.pictures(["picture", "class_index", "area"]):
            tally.labelled += 1
            tally.regions += len(regions)
            for row in regions:
                tally.areas[row["class_index"]] += row["area"]
        for failure in store.failures():
            tally.add(failure)
        tally.resumed = tally.done
        return tally

    @property
    def done(self) -> int:
        return self.labelled + self.failed

    def until(self, stop: Callable[[], bool], batches: Iterator[LoadedBatch]) -> Iterator[LoadedBatch]:
        """The batches up to the first before which `stop` says so."""
        for batch in batches:
            if stop():
                self.stopped = True
                return
            yield batch

    def loaded(self, batches: Iterator[LoadedBatch]) -> Iterator[LoadedBatch]:
        """The batches, with the time waited for each shared out between disk and decoding as the threads spent it."""
        for seconds, batch in _timed(batches):
            disk = sum(loaded.disk_seconds for loaded in batch.pictures)
            decoding = sum(loaded.decode_seconds for loaded in batch.pictures)
            share = disk / (disk + decoding)
            self.waited["disk"] += seconds * share
            self.waited["decoding"] += seconds * (1 - share)
            self.decoded_on_device += sum(loaded.on_device for loaded in batch.pictures)
            yield batch

    def finished(self, batches: Iterator[list[Outcome]]) -> Iterator[list[Outcome]]:
        """The outcomes, with the time waited for each put down to the models, but for what `loaded` waited in it."""
        reading = 0.0
        for seconds, outcomes in _timed(batches):
            before, reading = reading, self.waited["disk"] + self.waited["decoding"]
            self.waited["models"] += seconds - (reading - before)
            yield outcomes

    def add(self, outcome: Outcome) -> None:
        if isinstance(outcome, Failure):
            self.failed += 1
            self.last_failure = outcome.reason
            if len(self.failures) < SHOWN_FAILURES:
                self.failures.append(outcome)
        else:
            self.labelled += 1
            self.regions += len(outcome.areas)
            np.add.at(self.areas, outcome.class_index, outcome.areas)

    def summary(self, vocabulary: Vocabulary, *, interrupted: bool) -> RunSummary:
        seconds = time.perf_counter() - self.start
        waited = self.waited | {"writing": seconds - sum(self.waited.values())}
        shares = self.areas / max(self.areas.sum(), 1)
        names = [*vocabulary.names, SOMETHING_ELSE]
        return RunSummary(
            labelled=self.labelled,
            failed=self.failed,
            resumed=self.resumed,
            regions=self.regions,
            decoded_on_device=self.decoded_on_device,
            seconds=round(seconds, 3),
            pictures_per_second=round((self.done - self.resumed) / seconds, 3),
            time_shares={what: round(part / seconds, 3) for what, part in waited.items()},
            area_shares={name: round(share, 6) for name, share in zip(names, shares.tolist(), strict=True)},
            failures=tuple(self.failures),
            interrupted=interrupted,
        )


def _timed(items: Iterator[Item]) -> Iterator[tuple[float, Item]]:
    """Each item, after the seconds that it was waited for."""
    start = time.perf_counter()
    for item in items:
        yield time.perf_counter() - start, item
        start = time.perf_counter()
