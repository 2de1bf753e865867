"""What a run came to, counted while it goes on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ovsr_gpu.store.store import Failure, LabelledBatch, Store
from ovsr_gpu.vocabulary import SOMETHING_ELSE, Vocabulary

SHOWN_FAILURES = 5


@dataclass(frozen=True)
class RunSummary:
    """What a run came to.

    labelled, failed: images, those of earlier sessions of the run among them, of which there were `resumed`.
    decoded_on_device: images of this session that were decoded on a GPU.
    seconds: wall time of this session without loading the models; images_per_second: in it. time_fractions: for what
        it waited in that time: "disk", "decoding", "models", "writing" and "other"; these go on side by side, so each
        share is what the others did not cover, and the largest is the bottleneck. With several devices it is their
        average, and "other" has what they waited for a batch.
    area_fractions: fraction of all labelled pixels, by class name. never_found: the classes without a single one.
    uncertainty: the mean of 1 - score over them, what is likely to be named wrongly. failures: the first few.
    interrupted: whether images are left.
    """

    labelled: int
    failed: int
    resumed: int
    regions: int
    decoded_on_device: int
    seconds: float
    images_per_second: float
    time_fractions: dict[str, float]
    area_fractions: dict[str, float]
    never_found: tuple[str, ...]
    uncertainty: float
    failures: tuple[Failure, ...]
    interrupted: bool


class RunStats:
    """The running counts of a run, those of a store to begin with, and how many images are `resumed` thus."""

    def __init__(self, store: Store, vocabulary: Vocabulary) -> None:
        self._names = [*vocabulary.names, SOMETHING_ELSE]
        self._areas = np.zeros(len(self._names), np.int64)
        self._doubt = 0.0
        self.labelled = self.failed = self._regions = self._decoded_on_device = 0
        self._failures: list[Failure] = []
        self.last_failure = ""
        self._waited = Counter[str]()
        for table in store.tables(["image", "class_index", "score", "area"]):
            self._add_regions(table)
            self.labelled += len(table["image"].unique())
        self._add_failures(store.failures())
        self.resumed = self.done
        self._start = time.perf_counter()

    @property
    def done(self) -> int:
        return self.labelled + self.failed

    def add(self, batch: LabelledBatch) -> None:
        self.labelled += batch.labelled
        self._decoded_on_device += batch.decoded_on_device
        self._waited.update(batch.waited)
        self._add_regions(batch.regions)
        self._add_failures(batch.failures)

    def _add_regions(self, table: pa.Table) -> None:
        self._regions += len(table)
        areas = table["area"].to_numpy()
        np.add.at(self._areas, table["class_index"].to_numpy(), areas)
        self._doubt += float(areas @ (1 - table["score"].to_numpy().astype(np.float64)))

    def _add_failures(self, failures: Iterable[Failure]) -> None:
        for failure in failures:
            self.failed += 1
            self.last_failure = failure.reason
            if len(self._failures) < SHOWN_FAILURES:
                self._failures.append(failure)

    def summary(self, workers: int, *, interrupted: bool) -> RunSummary:
        """What it came to, with so many `workers` side by side."""
        seconds = time.perf_counter() - self._start
        shares = {what: part / (workers * seconds) for what, part in self._waited.items()}
        shares["other"] = shares.get("other", 0) + 1 - sum(shares.values())
        total = max(self._areas.sum(), 1)
        areas = self._areas / total
        return RunSummary(
            labelled=self.labelled,
            failed=self.failed,
            resumed=self.resumed,
            regions=self._regions,
            decoded_on_device=self._decoded_on_device,
            seconds=round(seconds, 3),
            images_per_second=round((self.done - self.resumed) / seconds, 3),
            time_fractions={what: round(fraction, 3) for what, fraction in shares.items()},
            area_fractions={
                name: round(fraction, 6) for name, fraction in zip(self._names, areas.tolist(), strict=True)
            },
            never_found=tuple(name for name, area in zip(self._names[:-1], self._areas[:-1], strict=True) if not area),
            uncertainty=round(self._doubt / total, 6),
            failures=tuple(self._failures),
            interrupted=interrupted,
        )
