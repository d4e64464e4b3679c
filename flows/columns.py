"""Columns of a build: encoders in tars of their own, which never decide which samples the mixture holds.

A column is made from the features of the build's own waves where there are any, else (an encoder added to, or
replaced beside, shards that are whole) from the shards' samples, encoded anew by the missing encoders alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

from pipeline.runtime.contract import BudgetError, Keyed
from pipeline.runtime.located import Reader
from pipeline.runtime.records import Records
from pipeline.shards.columns import Encoded
from pipeline.shards.index import read_index
from pipeline.shards.kept import Kept, OldTars
from pipeline.shards.reader import ShardReader
from pipeline.storage.places import Place
from schemas.arrays import Features
from schemas.base import InputError
from schemas.ledger import ColumnSample, Ledger
from schemas.rejection import Rejection
from schemas.sample import Sample, Split

SHOWN = 5
"""Samples that an error names before it only counts."""

Readers = Mapping[str, Reader]
"""By key, how to read its `Features`, or why there are none."""


class ColumnError(BudgetError):
    """An encoder has no features for some sample of the mixture, so it has no column: none may be missing."""


def samples_in(shards: Place, samples: Mapping[str, Sample]) -> dict[Split, Sequence[Sample]]:
    """The samples of finished shards, in their order. Raises InputError where one is no candidate any more."""
    order = {
        Split(split): read_index(shards, split, ["key"])["key"].to_pylist() for split in Ledger.read(shards).total
    }
    for key in (key for keys in order.values() for key in keys):
        if key not in samples:
            raise InputError(
                f"{key} is in the shards, but no longer a candidate: `mixture clean --all`, and build anew"
            )
    return {split: Records(keys, samples.__getitem__) for split, keys in order.items()}


def encoded(
    name: str,
    samples: Sequence[Sample],
    readers: Readers,
    shards: ShardReader | None,
    old: OldTars[ColumnSample] | None = None,
) -> Iterator[Encoded | Kept[ColumnSample]]:
    """The samples with their features in outline; with `shards`, held against what these hold at the same position.

    Samples of which `readers` knows nothing are taken from `old`, as it holds them. Raises ColumnError where a
    sample has none, InputError where its media or frames are not those of the shards.
    """
    for position, sample in enumerate(samples):
        if old and sample.key not in readers:
            yield old.row(sample.key)
            continue
        reader = readers[sample.key]
        outcome = reader.outline()
        if _failure(name, outcome):
            raise _told(name, samples, readers)
        features = cast("Features", outcome)
        if shards is not None:
            _check_same(shards, position, sample, features)
        yield Encoded(sample, features, cast("Callable[[], Features]", reader))


def _check_same(shards: ShardReader, position: int, sample: Sample, features: Features) -> None:
    stored = shards.read(position, ()).sample
    if (stored.binding_sha256, stored.clips) != (sample.binding_sha256(), features.meta.clips):
        raise InputError(
            f"{sample.key} has other media, annotations or frames now than in the shards: features of these would "
            "be given to those; put the old media back, or `mixture clean --all` and build anew"
        )


def refuse(names: Sequence[str], refused: Sequence[Rejection], samples: int) -> ColumnError:
    """The error for encoders that were to be given columns, of samples that were rejected on the way there."""
    return _error(names, [f"{each.key} ({each.stage}: {each.detail})" for each in refused], samples)


def _failure(name: str, outcome: Keyed) -> str:
    """Why encoder `name` has no features in `outcome`; empty where it has."""
    if isinstance(outcome, Rejection):
        return f"{outcome.stage}: {outcome.detail}"
    return cast("Features", outcome).meta.not_finite.get(name, "")


def _told(name: str, samples: Sequence[Sample], readers: Readers) -> ColumnError:
    outcomes = ((s.key, _failure(name, readers[s.key].outline())) for s in samples if s.key in readers)
    return _error([name], [f"{key} ({why})" for key, why in outcomes if why], len(samples))


def _error(names: Sequence[str], failed: Sequence[str], samples: int) -> ColumnError:
    return ColumnError(
        f"encoder {', '.join(names)} can have no column: {len(failed)} of {samples} samples fail, such as "
        f"{'; '.join(failed[:SHOWN])}. Mend the media, or take another precision or layer; or set its store.place "
        "to shards and build anew: there a sample that fails is replaced by a reserve."
    )
