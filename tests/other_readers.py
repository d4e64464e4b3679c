"""A mixture with everything that a reader may stumble over, and what its tars hold, as an outline to compare by."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import shard_factory as made

from pipeline.features.codec import quantised
from pipeline.plan.order import interleave
from pipeline.shards.columns import Encoded, join, write_column
from pipeline.shards.index import starts_in
from pipeline.shards.members import Packed
from pipeline.shards.writer import write_mixture
from schemas.arrays import Features, StorageLoss
from schemas.base import sha256_text
from schemas.sample import Modality, Split

COLUMN = "internvideo2"
ENCODERS = (made.ENCODERS[0].model_copy(update={"stored": "int8"}), made.ENCODERS[1])
COUNTS = {Split.TRAIN: made.TRAIN, Split.HELDOUT: {Modality.TEXT: 2, Modality.VIDEO: 5}}
LOSS = {"siglip": StorageLoss(cosine=0.875, relative_error=0.25)}


def build(folder: Path) -> Path:
    """Codes of int8 with scales and raw frames in the shards, a float16 column, texts with empty arrays."""
    packed = {split: [_packed(n, m, split) for n, m in enumerate(interleave(c))] for split, c in COUNTS.items()}
    account = made.account(heldout=COUNTS[Split.HELDOUT])
    write_mixture(folder / "shards", packed, ["siglip"], made.WITH_FRAMES, account)
    rows = {split: (Encoded(each.sample, each.features) for each in own) for split, own in packed.items()}
    starts = {split: starts_in(folder / "shards", split) for split in COUNTS}
    write_column(folder / "column", COLUMN, rows, made.WITH_FRAMES, starts)
    mixture = folder / "mixture"
    join(mixture, folder / "shards", {COLUMN: folder / "column"}, made.NAMES, sha256_text("recipe"))
    return mixture


def _packed(number: int, modality: Modality, split: Split) -> Packed:
    plain = made.make_packed(number, modality, split, ENCODERS)
    codes, scale = quantised(plain.features.arrays["siglip"])
    arrays = plain.features.arrays | {"siglip": codes, "siglip.scale": scale}
    meta = plain.features.meta.model_copy(update={"storage_loss": LOSS if len(codes) else {}})
    return Packed(plain.sample, plain.conversation, Features(meta, arrays, plain.features.frames))


def tars(folder: Path, split: str, column: str = "") -> list[Path]:
    """Of the shards, or of a column, in order."""
    return sorted((folder / "shards").glob(f"{split}-??????{column and '.' + column}.tar"))


def plain(folder: Path, split: str, column: str = "") -> list[dict]:
    """Outlines of all samples in order, by the standard library's `tarfile` and NumPy alone."""
    found: dict[str, dict] = {}
    for path in tars(folder, split, column):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                data = tar.extractfile(member).read()
                value = json.loads(data) if suffix.endswith("json") else np.load(io.BytesIO(data))
                found.setdefault(key, {"__key__": key})[suffix] = value
    return [outline(sample) for sample in found.values()]


def outline(sample: dict) -> dict:
    """Key, JSON as it is, and of each array dtype, shape and digest of its bytes; no reader's own fields."""
    return {
        name.removeprefix("."): _array(value) if isinstance(value, np.ndarray) else value
        for name, value in sample.items()
        if name == "__key__" or not name.startswith("__")
    }


def _array(array: np.ndarray) -> list:
    return [str(array.dtype), list(array.shape), hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()]


def by_key(samples: list[dict]) -> list[dict]:
    """For readers whose workers take turns."""
    return sorted(samples, key=lambda sample: sample["__key__"])
