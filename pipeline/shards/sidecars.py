"""Files that other people's readers need beside the tars; our own reader needs none of them.

The mixture's folder itself is the dataset root of each: shard names are relative to it.

- wids 0.1.11: `shardindex-{split}.json`, urls relative to the file.
- Megatron-Energon 7.4.1: `.nv-meta/` in the root and `{shard}.tar.idx` beside each tar. The heldout
  split is its `val`.
"""

import json
import struct
from collections.abc import Sequence

import yaml

from pipeline.storage.files import published, write_text
from pipeline.storage.places import Place
from schemas.ledger import Ledger
from schemas.sample import Split

ENERGON_VERSION = "7.4.1"
"""The release whose formats these are."""
_ENERGON_PARTS = {"train": Split.TRAIN, "val": Split.HELDOUT, "test": None}


INDEX_END = ".idx"
"""Of the name of a tar's index."""
_ENERGON = ".nv-meta"


def wids_name(split: Split) -> str:
    """Of the file that wids reads."""
    return f"shardindex-{split}.json"


def energon_names() -> list[str]:
    """Of the files that Energon reads, by their paths in the mixture's folder."""
    return [f"{_ENERGON}/{name}" for name in (".info.json", "split.yaml", "dataset.yaml")]


def write_tar_index(tar: Place, offsets: Sequence[int], exclusive_end: int) -> None:
    """`{tar}.idx`: little-endian uint64 header offsets of each sample's first member, then the last one's end."""
    with published(tar.with_name(f"{tar.name}{INDEX_END}")) as attempt:
        attempt.write_bytes(struct.pack(f"<{len(offsets) + 1}Q", *offsets, exclusive_end))


def write_wids(folder: Place, ledger: Ledger) -> None:
    """`shardindex-{split}.json` for each split that has shards."""
    for split in Split:
        shards = [
            {"url": shard.name, "nsamples": shard.count.samples, "filesize": shard.size_bytes}
            for shard in ledger.shards
            if shard.split is split
        ]
        if shards:
            index = {
                "__kind__": "wids-shard-index-v1",
                "wids_version": 1,
                "name": f"{ledger.recipe}-{split}",
                "shardlist": shards,
            }
            write_text(folder / wids_name(split), json.dumps(index, indent=1) + "\n")


def write_energon(folder: Place, ledger: Ledger) -> None:
    """`.nv-meta/{.info.json,split.yaml,dataset.yaml}`: a crude dataset, its samples are plain dicts."""
    counts = {shard.name: shard.count.samples for shard in ledger.shards}
    parts = {
        part: [shard.name for shard in ledger.shards if shard.split is split]
        for part, split in _ENERGON_PARTS.items()
    }
    kind = {"__module__": "megatron.energon", "__class__": "CrudeWebdataset"}
    info = {"energon_version": ENERGON_VERSION, "shard_counts": counts}
    texts = [
        json.dumps(info, indent=2),
        yaml.safe_dump({"split_parts": parts, "exclude": []}, sort_keys=False),
        yaml.safe_dump(kind, sort_keys=False),
    ]
    for name, text in zip(energon_names(), texts, strict=True):
        write_text(folder / name, text)
