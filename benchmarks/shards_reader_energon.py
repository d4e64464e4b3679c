"""Megatron-Energon, for shards_readers.py, in an environment of its own."""

from collections.abc import Iterable, Iterator
from typing import Any

from megatron.energon import (
    Cooker,
    CrudeSample,
    DefaultTaskEncoder,
    WorkerConfig,
    get_savable_loader,
    get_train_dataset,
    get_val_dataset,
    stateless,
)
from shards_readers import BUFFER, Batch, Reader, plain, shared


@stateless
def _as_it_is(sample: CrudeSample) -> CrudeSample:
    return sample


class _Encoder(DefaultTaskEncoder):
    cookers = (Cooker(_as_it_is),)

    def __init__(self, in_workers: bool) -> None:
        super().__init__(raw_batch_type=dict)
        self._in_workers = in_workers

    def batch(self, samples: list[Any]) -> dict[str, Batch]:
        found = [plain(sample) for sample in samples]
        return {"samples": shared(found) if self._in_workers else found}


class Energon(Reader):
    """Its loader of a train set, once through; its loader of a validation set where nothing is to be shuffled."""

    def batches(self, job: dict[str, Any]) -> Iterator[Batch]:
        """One epoch."""
        return self._of(_loader(job))

    def state(self, job: dict[str, Any], done: int) -> Any:
        """What it would save."""
        loader = _loader(job)
        for number, _ in enumerate(loader, 1):
            if number * job["batch"] >= done:
                return loader.save_state_rank()
        raise ValueError(f"fewer than {done} samples")

    def resumed(self, job: dict[str, Any], state: Any) -> Iterator[Batch]:
        """The rest of the epoch."""
        loader = _loader(job)
        loader.restore_state_rank(state)
        return self._of(loader)

    def _of(self, loader: Iterable[dict[str, Batch]]) -> Iterator[Batch]:
        return (batch["samples"] for batch in loader)


def _loader(job: dict[str, Any]) -> Any:
    common = {
        "worker_config": WorkerConfig(rank=0, world_size=1, num_workers=job["workers"]),
        "batch_size": job["batch"],
        "task_encoder": _Encoder(bool(job["workers"])),
    }
    if job["shuffle"]:
        options = {"shuffle_buffer_size": BUFFER, "max_samples_per_sequence": BUFFER, "repeat": False}
        dataset = get_train_dataset(job["msc"], **options, **common)
    else:
        dataset = get_val_dataset(job["msc"], split_part="train", **common)
    return get_savable_loader(dataset)


READER = Energon()
