"""Reads a folder by Megatron-Energon in an interpreter that has it; prints one JSON list of outlines.

python read_by_energon.py FOLDER PART WORKERS [--column INDEX SPLIT] [--stop N STATE | --resume STATE] [--train]
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
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

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))


@stateless
def plainly(sample: CrudeSample) -> CrudeSample:
    return sample


class Joining:
    """A cooker that adds the column's features to each sample, by our own reader's index."""

    def __init__(self, folder: str, split: str, column: str) -> None:
        from pipeline.shards.reader import ShardReader

        self._column, self._reader = column, ShardReader(Path(folder), split)

    def __call__(self, sample: CrudeSample) -> CrudeSample:
        stored = self._reader.read(self._reader.position(sample["__key__"]), [self._column])
        return CrudeSample({**sample, f"{self._column}.npy": stored.features[self._column]})


def main() -> None:
    from other_readers import outline

    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("part")
    parser.add_argument("workers", type=int)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--column", nargs=2, metavar=("SPLIT", "NAME"))
    parser.add_argument("--stop", nargs=2, metavar=("N", "STATE"))
    parser.add_argument("--resume", metavar="STATE")
    options = parser.parse_args()

    class Encoder(DefaultTaskEncoder):
        cookers = [Cooker(stateless(Joining(options.folder, *options.column)) if options.column else plainly)]  # noqa: RUF012

        def __init__(self) -> None:
            super().__init__(raw_batch_type=dict)

        def batch(self, samples: list) -> dict:
            return {"samples": samples}

    workers = WorkerConfig(rank=0, world_size=1, num_workers=options.workers)
    common = {"split_part": options.part, "worker_config": workers, "batch_size": 3, "task_encoder": Encoder()}
    if options.train:
        dataset = get_train_dataset(
            options.folder, shuffle_buffer_size=7, max_samples_per_sequence=None, repeat=False, **common
        )
    else:
        dataset = get_val_dataset(options.folder, **common)
    loader = get_savable_loader(dataset)
    if options.resume:
        loader.restore_state_rank(torch.load(options.resume, weights_only=False))
    found = []
    batches = iter(loader)
    for number, batch in enumerate(batches, 1):
        found += [outline(arrays(sample)) for sample in batch["samples"]]
        if options.stop and number == int(options.stop[0]):
            torch.save(loader.save_state_rank(), options.stop[1])
    sys.stdout.write("\n" + json.dumps(found) + "\n")


def arrays(sample: dict) -> dict:
    """With NumPy's arrays, whether or not a tensor was made of them on the way through a worker."""
    return {n: np.asarray(v) if isinstance(v, torch.Tensor) else v for n, v in dict(sample).items()}


if __name__ == "__main__":
    main()
