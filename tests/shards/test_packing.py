"""Laws of tars: cut by bytes, columns as shards, the same bytes from any number of writers, one error ends all."""

import random
import tarfile
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import shard_factory as made
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.rows import read_outline, read_row, write_rows
from pipeline.shards import packing
from pipeline.shards.columns import Encoded, join, write_column
from pipeline.shards.index import starts_in
from pipeline.shards.members import Packed
from pipeline.shards.tar import header, room, tar_bytes
from pipeline.shards.writer import write_mixture
from schemas.base import InputError, sha256_text
from schemas.ledger import Ledger
from schemas.recipe import ShardsSpec
from schemas.sample import Category, Modality, Split

SMALL = ShardsSpec(max_bytes=60_000, samples_per_shard=12, frames_for=(Category.TEMPORAL_PERCEPTION,))
"""Some tars are full by bytes, some by number."""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def packed(spec=SMALL):
    return list(made.as_asked(made.samples(made.TRAIN, Split.TRAIN), spec))


def written(folder, rows, spec=SMALL, writers=1, starts=None, names=made.NAMES):
    account = made.account(heldout={})
    return write_mixture(folder, {Split.TRAIN: rows}, names, spec, account, None, starts, writers)


@dataclass(frozen=True)
class FromPart:
    path: Path
    row: int

    def __call__(self):
        return read_row(self.path, self.row)


@pytest.fixture(scope="module")
def outlined(tmp_path_factory):
    """The samples with their features in a part file."""
    path = tmp_path_factory.mktemp("parts") / "part"
    rows = packed()
    write_rows(path, [row.features for row in rows])
    return [replace(row, features=read_outline(path, n), whole=FromPart(path, n)) for n, row in enumerate(rows)]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    written(folder, packed())
    return folder


def tars(folder):
    return sorted((folder / "shards").glob("train-??????.tar"))


def keys(path):
    with tarfile.open(path) as tar:
        return list(dict.fromkeys(name.partition(".")[0] for name in tar.getnames()))


def test_a_tar_closes_before_the_sample_that_would_carry_it_over_and_not_earlier(reference):
    sizes = [path.stat().st_size for path in tars(reference)]
    counts = [len(keys(path)) for path in tars(reference)]
    assert all(size <= SMALL.max_bytes and count <= 12 for size, count in zip(sizes, counts, strict=True))
    assert len(set(counts)) > 1
    ends = [sum(counts[: number + 1]) for number in range(len(counts) - 1)]
    bytes_of = [packing.sample_bytes([(m, s) for m, s in each]) for each in member_sizes(reference)]
    starts = [0, *ends]
    for start, end, count in zip(starts, ends, counts, strict=False):
        assert count == 12 or tar_bytes(sum(bytes_of[start : end + 1])) > SMALL.max_bytes


def member_sizes(folder):
    found = {}
    for path in tars(folder):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                found.setdefault(key, []).append((suffix, member.size))
    return list(found.values())


def test_a_sample_larger_than_the_bound_is_a_tar_of_its_own(tmp_path):
    wide = tuple(encoder.model_copy(update={"width": 200}) for encoder in made.ENCODERS)
    modalities = [Modality.TEXT, Modality.TEXT, Modality.VIDEO, Modality.TEXT, Modality.VIDEO, Modality.VIDEO]
    rows = [made.make_packed(n, modality, encoders=wide) for n, modality in enumerate(modalities)]
    ledger = written(tmp_path, rows, ShardsSpec(max_bytes=20_480))
    assert [entry.count.samples for entry in ledger.shards] == [2, 1, 1, 1, 1]
    assert [entry.size_bytes > 20_480 for entry in ledger.shards] == [False, True, False, True, True]


@given(st.integers(10_240, 10**7))
def test_room_is_all_that_fits_and_no_more(size):
    assert tar_bytes(room(size)) <= size < tar_bytes(room(size) + 512)


@pytest.mark.parametrize("writers", [1, 2, 5])
@pytest.mark.parametrize("form", ["whole", "outlined"])
def test_any_number_of_writers_gives_the_bytes_of_one(reference, outlined, tmp_path, writers, form):
    written(tmp_path, packed() if form == "whole" else outlined, writers=writers)
    assert contents(tmp_path) == contents(reference)


@pytest.mark.parametrize("writers", [1, 2, 5])
def test_a_column_is_cut_where_the_shards_are(tmp_path, outlined, writers):
    column = "internvideo2"
    beside = [name for name in made.NAMES if name != column]
    shards = tmp_path / "shards"
    written(shards, packed(), names=beside)
    starts = {Split.TRAIN: starts_in(shards, "train")}
    assert starts != made.every(12, made.TRAIN)
    rows = [Encoded(row.sample, row.features, row.whole) for row in outlined]
    write_column(tmp_path / "column", column, {Split.TRAIN: rows}, SMALL, starts, writers)
    own = [keys(path) for path in tars(shards)]
    theirs = [keys(p) for p in sorted((tmp_path / "column/shards").glob(f"*.{column}.tar"))]
    assert own == theirs
    join(tmp_path / "mixture", shards, {column: tmp_path / "column"}, made.NAMES, sha256_text("recipe"))
    again = tmp_path / "again"
    whole = [Encoded(row.sample, row.features) for row in packed()]
    write_column(again, column, {Split.TRAIN: whole}, SMALL, starts)
    assert contents(again) == contents(tmp_path / "column")


def test_a_column_that_is_cut_otherwise_is_never_joined(tmp_path):
    column = "internvideo2"
    written(tmp_path / "shards", packed(), names=["siglip"])
    rows = [Encoded(row.sample, row.features) for row in packed()]
    write_column(tmp_path / "column", column, {Split.TRAIN: rows}, SMALL, made.every(12, made.TRAIN))
    with pytest.raises(ValueError, match="hold other train samples"):
        join(tmp_path / "m", tmp_path / "shards", {column: tmp_path / "column"}, made.NAMES, sha256_text("r"))


def test_samples_added_behind_leave_every_tar_but_the_last_as_it_was(reference, tmp_path):
    more = [made.make_packed(100 + number, Modality.VIDEO) for number in range(9)]
    written(tmp_path, [*packed(), *more], starts={Split.TRAIN: starts_in(reference, "train")})
    own, new = contents(reference), contents(tmp_path)
    for path in tars(reference)[:-1]:
        assert new[f"shards/{path.name}"] == own[f"shards/{path.name}"]


def test_old_cuts_stay_though_a_sample_of_another_size_comes_between(reference, tmp_path):
    starts = starts_in(reference, "train")
    rows = packed()
    at = next(n for n, row in enumerate(rows[: starts[-1]]) if row.sample.modality is Modality.TEXT)
    rows[at] = made.make_packed(99, Modality.VIDEO)
    written(tmp_path, rows, starts={Split.TRAIN: starts})
    assert starts_in(tmp_path, "train") == starts
    own, new = contents(reference), contents(tmp_path)
    changed = [path.name for path in tars(reference) if new[f"shards/{path.name}"] != own[f"shards/{path.name}"]]
    assert len(changed) == 1


@pytest.mark.parametrize("writers", [1, 2, 5])
def test_an_error_of_one_writer_ends_all_with_its_own_cause_and_leaves_no_ledger(tmp_path, outlined, writers):
    class BrokenError(RuntimeError):
        pass

    def broken():
        raise BrokenError("the disk of this part is gone")

    rows = list(outlined)
    rows[17] = replace(rows[17], whole=broken)
    before = threading.active_count()
    with pytest.raises(BrokenError, match="is gone"):
        written(tmp_path, rows, writers=writers)
    assert threading.active_count() == before
    found = contents(tmp_path)
    assert "ledger.json" not in found
    assert not [name for name in found if ".attempt-" in name]
    for name in (name for name in found if name.endswith(".tar")):
        assert f"{name}.idx" in found


def test_an_error_of_a_late_tar_is_told_though_an_early_one_waits_for_it(tmp_path, outlined):
    failed = threading.Event()

    def fails():
        failed.set()
        raise RuntimeError("late")

    def waits():
        assert failed.wait(60)
        return FromPart.__call__(outlined[0].whole)

    rows = list(outlined)
    rows[0] = replace(rows[0], whole=waits)
    rows[20] = replace(rows[20], whole=fails)
    with pytest.raises(RuntimeError, match="late"):
        written(tmp_path, rows, writers=3)


def test_arrays_that_are_not_those_that_the_tar_was_cut_for_are_refused(tmp_path, outlined):
    number = next(n for n, row in enumerate(outlined) if row.sample.modality is Modality.VIDEO)
    text = next(row for row in outlined if row.sample.modality is Modality.TEXT)
    rows = list(outlined)
    rows[number] = replace(rows[number], whole=text.whole)
    with pytest.raises((RuntimeError, ValueError)):
        written(tmp_path, rows)


def test_no_more_samples_are_read_at_once_than_there_are_writers(tmp_path, outlined):
    turn, at_work, most = threading.Lock(), 0, 0
    ready = threading.Semaphore(0)

    def slow(read):
        def whole():
            nonlocal at_work, most
            with turn:
                at_work += 1
                most = max(most, at_work)
            ready.acquire(timeout=0.01)
            found = read()
            with turn:
                at_work -= 1
            return found

        return whole

    written(tmp_path, [replace(row, whole=slow(row.whole)) for row in outlined], writers=2)
    assert most == 2


@given(
    st.text("abcdefghijklmnopqrstuvwxyz0123456789._-", min_size=1, max_size=100),
    st.integers(0, 8**11 - 1),
)
def test_a_header_is_the_one_that_tarfile_writes(name, size):
    info = tarfile.TarInfo(name)
    info.size = size
    assert header(name, size) == info.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize(("name", "size"), [("n" * 101, 0), ("n", 8**11)])
def test_what_has_no_place_in_a_header_is_refused(name, size):
    with pytest.raises(InputError):
        header(name, size)


def test_a_tar_by_hand_is_the_one_that_tarfile_writes(tmp_path):
    rng, members = random.Random(0), []
    for number, size in enumerate([0, 1, 511, 512, 513, 70_000, 200_001]):
        members.append((f"k{number}.{'x' * number}npy", rng.randbytes(size)))
    with packing.TarShard(tmp_path / "ours") as ours:
        offsets = [ours.add(name, data[:100], memoryview(data)[100:]) for name, data in members]
    with tarfile.open(tmp_path / "theirs", "w", format=tarfile.USTAR_FORMAT) as theirs:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            (tmp_path / "data").write_bytes(data)
            with (tmp_path / "data").open("rb") as reader:
                theirs.addfile(info, reader)
    data = (tmp_path / "ours").read_bytes()
    assert data == (tmp_path / "theirs").read_bytes()
    with tarfile.open(tmp_path / "ours") as tar:
        assert [member.offset_data for member in tar] == offsets


def test_the_ledger_of_the_reference_is_of_all_samples(reference):
    assert sum(entry.count.samples for entry in Ledger.read(reference).shards) == sum(made.TRAIN.values())
    assert np.all(np.diff(starts_in(reference, "train")) > 0)


def test_an_outline_is_checked_as_its_sample_is(outlined):
    with pytest.raises(ValueError, match="pack records of one key"):
        Packed(outlined[0].sample, outlined[1].conversation, outlined[0].features)
