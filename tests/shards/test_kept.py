"""Laws of samples that are taken over from finished tars: the bytes of those written anew, or the same file."""

import random
import shutil

import pytest
import shard_factory as made

from pipeline.shards.columns import Encoded, write_column
from pipeline.shards.index import column_index
from pipeline.shards.kept import OldTars
from pipeline.shards.reader import ShardError
from pipeline.shards.writer import write_mixture
from schemas.base import InputError
from schemas.ledger import INDEX, ColumnSample, Ledger, ShardSample
from schemas.sample import Modality, Split

COLUMN = "internvideo2"


def old_tars(folder):
    ledger = Ledger.read(folder)
    return OldTars(folder, INDEX, ledger.shards, ShardSample.model_validate_json)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    made.build(folder)
    return folder


def packed(spec=made.WITH_FRAMES):
    return list(made.as_asked(made.samples(made.TRAIN, Split.TRAIN), spec))


def written(folder, rows):
    write_mixture(folder, {Split.TRAIN: rows}, made.NAMES, made.WITH_FRAMES, made.account(heldout={}))
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_kept_samples_in_any_order_among_new_ones_give_the_bytes_of_all_written_anew(base, tmp_path):
    rows, old = packed(), old_tars(base)
    random.Random(1).shuffle(rows)
    mixed = [old.row(row.sample.key) if number % 3 else row for number, row in enumerate(rows)]
    assert written(tmp_path / "mixed", mixed) == written(tmp_path / "anew", rows)
    whole = [old.row(row.sample.key) for row in rows]
    assert written(tmp_path / "kept", whole) == written(tmp_path / "again", rows)


def test_a_tar_whose_samples_all_stand_is_the_same_file_and_any_other_is_written(base, tmp_path):
    rows, old = packed(), old_tars(base)
    kept = [old.row(row.sample.key) for row in rows]
    kept[14] = rows[14]  # made anew, in the second tar of twelve
    out = tmp_path / "out"
    again = written(out, kept)
    assert again == written(tmp_path / "anew", rows)
    for number in range(4):
        for end in ("", ".idx"):
            name = f"shards/train-{number:06d}.tar{end}"
            is_linked = (out / name).stat().st_ino == (base / name).stat().st_ino
            assert is_linked == (number != 1), name


@pytest.mark.parametrize("change", ["swapped", "shorter", "later"])
def test_a_tar_is_not_the_old_one_if_its_samples_stand_otherwise(base, tmp_path, change):
    kept = [old_tars(base).row(row.sample.key) for row in packed()]
    if change == "swapped":
        kept[0], kept[1] = kept[1], kept[0]
    elif change == "shorter":
        kept = kept[:11]
    else:
        kept = kept[12:24]  # all of the second tar, but as the first
    written(tmp_path, kept)
    first = tmp_path / "shards/train-000000.tar"
    assert first.stat().st_nlink == 1
    assert first.read_bytes() != (base / "shards/train-000000.tar").read_bytes()


def test_kept_features_of_a_column_give_the_bytes_of_all_written_anew(tmp_path):
    made.build_with_column(tmp_path, COLUMN)
    column, shards = tmp_path / "column", old_tars(tmp_path / "shards")
    told = next(column for column in Ledger.read(tmp_path / "mixture").columns if column.encoder == COLUMN)
    parse = ColumnSample.model_validate_json
    old = OldTars(column, column_index(COLUMN), told.shards, parse, shards.clips)
    rows = packed()
    rows[13], rows[14] = rows[14], rows[13]
    encoded = [Encoded(row.sample, row.features) for row in rows]
    mixed = [row if number % 5 == 1 else old.row(row.sample.key) for number, row in enumerate(encoded)]
    kept = [old.row(row.sample.key) for row in encoded]
    found = []
    for name, each in (("anew", encoded), ("mixed", mixed), ("kept", kept)):
        folder = tmp_path / name
        write_column(folder, COLUMN, {Split.TRAIN: each}, made.WITH_FRAMES, made.every(12, made.TRAIN))
        found.append({p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()})
    assert found[0] == found[1] == found[2]
    links = [(tmp_path / "kept/shards" / f"train-{n:06d}.{COLUMN}.tar").stat().st_nlink for n in range(4)]
    assert [links[0] > 1, links[1] > 1, links[2] > 1, links[3] > 1] == [True, False, True, True]


def test_features_of_other_weights_are_never_put_among_kept_ones(base, tmp_path):
    old = old_tars(base)
    other = tuple(encoder.model_copy(update={"weights_sha256": "0" * 64}) for encoder in made.ENCODERS)
    rows = [old.row(packed()[0].sample.key), made.make_packed(99, Modality.VIDEO, encoders=other)]
    with pytest.raises(InputError, match="build without --amend"):
        written(tmp_path, made.as_asked(iter(rows), made.WITH_FRAMES))


def test_a_tar_that_is_not_the_one_that_was_indexed_is_never_copied_from(base, tmp_path):
    folder = shutil.copytree(base, tmp_path / "base")
    tars = sorted((folder / "shards").glob("train-*.tar"))
    tars[0].write_bytes(tars[1].read_bytes())
    key = packed()[0].sample.key
    with pytest.raises(ShardError):
        old_tars(folder).row(key).members()
