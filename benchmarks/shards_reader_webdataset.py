"""webdataset, for shards_readers.py. It has no state: to go on in the middle it reads what goes before."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

import torch
import webdataset
from shards_readers import BUFFER, Batch, Reader, grouped, plain, shared


class WebDataset(Reader):
    """Shards in their order, or shards and samples shuffled."""

    def batches(self, job: dict[str, Any]) -> Iterable[Batch]:
        """One epoch."""
        shuffled = job["shuffle"]
        dataset = webdataset.WebDataset(
            job["tars"], shardshuffle=BUFFER if shuffled else False, empty_check=False, seed=0
        )
        dataset = dataset.shuffle(BUFFER) if shuffled else dataset
        samples = dataset.decode().map(plain)
        if not job["workers"]:
            return grouped(samples, job["batch"])
        return torch.utils.data.DataLoader(
            samples, batch_size=job["batch"], num_workers=job["workers"], collate_fn=shared
        )

    def state(self, job: dict[str, Any], done: int) -> None:
        """What it would save."""

    def resumed(self, job: dict[str, Any], state: Any) -> Iterator[Batch]:
        """The rest of the epoch."""
        done = job["done"]
        samples = islice(chain.from_iterable(self.batches(job)), done, None)
        return grouped(samples, job["batch"])


READER = WebDataset()
