"""Stores of runs, made from records."""

from __future__ import annotations

from pathlib import Path

from ovsr_gpu.store.record import LabelledImage
from ovsr_gpu.store.store import Failure, LabelledBatch, Store, StoreWriter, table_of


def batch_of(*items: LabelledImage | Failure) -> LabelledBatch:
    """A batch of these."""
    records = [item for item in items if isinstance(item, LabelledImage)]
    return LabelledBatch(table_of(records), [item for item in items if isinstance(item, Failure)], len(records), {}, 0)


def store_of(out: Path, *items: LabelledImage | Failure) -> Store:
    """A store with these, each a batch of its own."""
    writer = StoreWriter(out)
    for item in items:
        writer.add(batch_of(item))
    writer.close()
    return Store(out)
