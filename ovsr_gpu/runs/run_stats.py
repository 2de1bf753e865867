"""The statistics of a run, updated while it runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ovsr_gpu.results import expected_errors
from ovsr_gpu.store.reader import Store
from ovsr_gpu.store.schema import Failure, LabelledBatch
from ovsr_gpu.vocabulary import SOMETHING_ELSE, Vocabulary

MAX_FAILURES_SHOWN = 5


@dataclass(frozen=True)
class RunSummary:
    """The summary of a labelling run. All fields but `failures` are also in `summary.json`.

    Attributes:
        labelled: Number of labelled images, including those of earlier sessions of the run.
        failed: Number of images that could not be labelled, including those of earlier sessions.
        resumed: Number of images that earlier sessions had finished, labelled or failed.
        regions: Number of regions of all labelled images.
        decoded_on_device: Number of images of this session that were decoded on a GPU.
        seconds: Wall time of this session, without loading the models.
        images_per_second: Images of this session per second of this time.
        time_fractions: The fractions of this time that the models' thread waited for "disk", "decoding", "models",
            "writing" and "other". These run in parallel, so each fraction is the time that the others did not hide; the
            largest one is the bottleneck. With several devices it is the average over them, and "other" includes
            waiting for a batch.
        area_fractions: Class name -> fraction of all labelled pixels, "something else" included.
        never_found: The classes without a single pixel.
        uncertainty: The mean of 1 - score over all labelled pixels: the expected fraction of wrongly labelled pixels if
            the scores are calibrated.
        failures: The first few failures.
        interrupted: Whether the run ended before all images were done.
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
    """The counts of a run, starting with those of its store.

    Args:
        store: The results of earlier sessions of the run.
        vocabulary: The classes.

    Attributes:
        num_labelled: Number of labelled images.
        num_failed: Number of failed images.
        num_resumed: Number of images in the store at the start.
        last_failure: The reason of the last failure.
    """

    def __init__(self, store: Store, vocabulary: Vocabulary) -> None:
        self._names = [*vocabulary.names, SOMETHING_ELSE]
        self._areas = np.zeros(len(self._names), np.int64)
        self._uncertain_area = 0.0
        """The sum of 1 - score over all labelled pixels."""
        self.num_labelled = self.num_failed = self._num_regions = self._num_decoded_on_device = 0
        self._failures: list[Failure] = []
        self.last_failure = ""
        self._wait_seconds = Counter[str]()
        for table in store.tables(["image", "class_index", "score", "area"]):
            self._add_regions(table)
            self.num_labelled += len(table["image"].unique())
        self._add_failures(store.failures())
        self.num_resumed = self.num_done
        self._start = time.perf_counter()

    @property
    def num_done(self) -> int:
        """Number of images that are labelled or failed."""
        return self.num_labelled + self.num_failed

    def add(self, batch: LabelledBatch) -> None:
        """Add the result of a batch."""
        self.num_labelled += batch.num_labelled
        self._num_decoded_on_device += batch.num_decoded_on_device
        self._wait_seconds.update(batch.wait_seconds)
        self._add_regions(batch.regions)
        self._add_failures(batch.failures)

    def _add_regions(self, table: pa.Table) -> None:
        self._num_regions += len(table)
        areas = table["area"].to_numpy()
        np.add.at(self._areas, table["class_index"].to_numpy(), areas)
        self._uncertain_area += float(expected_errors(table["score"].to_numpy().astype(np.float64), areas).sum())

    def _add_failures(self, failures: Iterable[Failure]) -> None:
        for failure in failures:
            self.num_failed += 1
            self.last_failure = failure.reason
            if len(self._failures) < MAX_FAILURES_SHOWN:
                self._failures.append(failure)

    def summary(self, num_workers: int, *, interrupted: bool) -> RunSummary:
        """Return the summary of the run up to now.

        Args:
            num_workers: Number of workers that label in parallel.
            interrupted: Whether images are left.

        Returns:
            The summary.
        """
        seconds = time.perf_counter() - self._start
        time_fractions = {cause: waited / (num_workers * seconds) for cause, waited in self._wait_seconds.items()}
        time_fractions["other"] = time_fractions.get("other", 0) + 1 - sum(time_fractions.values())
        total_area = max(self._areas.sum(), 1)
        area_fractions = self._areas / total_area
        return RunSummary(
            labelled=self.num_labelled,
            failed=self.num_failed,
            resumed=self.num_resumed,
            regions=self._num_regions,
            decoded_on_device=self._num_decoded_on_device,
            seconds=round(seconds, 3),
            images_per_second=round((self.num_done - self.num_resumed) / seconds, 3),
            time_fractions={cause: round(fraction, 3) for cause, fraction in time_fractions.items()},
            area_fractions={
                name: round(fraction, 6) for name, fraction in zip(self._names, area_fractions.tolist(), strict=True)
            },
            never_found=tuple(name for name, area in zip(self._names[:-1], self._areas[:-1], strict=True) if not area),
            uncertainty=round(self._uncertain_area / total_area, 6),
            failures=tuple(self._failures),
            interrupted=interrupted,
        )
