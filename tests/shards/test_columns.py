"""Columns: an encoder in tars of its own beside the shards."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shard_factory as made
import webdataset

from pipeline.shards.columns import Encoded, WrittenColumn, join, write_column
from pipeline.shards.reader import ShardError, ShardReader
from pipeline.shards.writer import write_mixture
from schemas.base import digest, sha256_text
from schemas.ledger import ColumnSample, Ledger
from schemas.sample import Modality, Split

COLUMN = "internvideo2"


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """`shards` with siglip alone, `column` with internvideo2, `mixture` of both."""
    folder = tmp_path_factory.mktemp("columns")
    made.build_with_column(folder)
    return folder


def files(folder: Path) -> dict[str, Path]:
    return {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_joined_column_touches_nothing_but_ledger_and_card(parts):
    shards, mixture, column = (files(parts / name) for name in ("shards", "mixture", "column"))
    untouched = {name for name, path in shards.items() if mixture[name].samefile(path)}
    assert shards.keys() - untouched == {"ledger.json", "README.md"}
    tars = [f"shards/train-{n:06d}.{COLUMN}.tar" for n in range(4)] + [f"shards/heldout-000000.{COLUMN}.tar"]
    added = {*tars, *(f"{tar}.idx" for tar in tars), f"index.{COLUMN}.parquet"}
    assert mixture.keys() - shards.keys() == added == column.keys() - {"column.json"}


def test_the_ledger_tells_encoders_in_the_recipes_order_and_one_root_of_all_tars(parts):
    ledger, before = Ledger.read(parts / "mixture"), Ledger.read(parts / "shards")
    assert ledger.encoders == made.ENCODERS
    assert ledger.in_shards == before.encoders == made.ENCODERS[:1]
    (column,) = ledger.columns
    shas = [entry.sha256 for entry in ledger.shards] + [tar.sha256 for tar in column.shards]
    assert ledger.root_sha256 == digest(shas) != before.root_sha256
    assert (before.columns, ledger.shards) == ((), before.shards)
    sizes = sum(path.stat().st_size for path in (parts / "mixture" / "shards").glob(f"*.{COLUMN}.tar"))
    assert sum(tar.size_bytes for tar in column.shards) == sizes
    assert 0 < sum(size for name, size in ledger.member_bytes.items() if name.startswith(COLUMN)) < sizes


def test_an_encoder_counts_the_same_in_a_column_as_in_the_shards_but_for_its_own_json(parts, tmp_path):
    beside, told = made.build(tmp_path).by_encoder, Ledger.read(parts / "mixture").by_encoder
    assert told.keys() == beside.keys()
    assert [told[label] for label in told if "siglip" in label] == [
        beside[label] for label in beside if "siglip" in label
    ]
    for split in ("train", "heldout"):
        label = f"{split}/{COLUMN}"
        more = told[label].bytes - beside[label].bytes
        assert told[label] == beside[label].model_copy(update={"bytes": beside[label].bytes + more})
        assert more > 0
    assert sum(told[f"{split}/{COLUMN}"].bytes for split in ("train", "heldout")) == sum(
        size for name, size in Ledger.read(parts / "mixture").member_bytes.items() if name.startswith(COLUMN)
    )


@pytest.mark.parametrize("split", [Split.TRAIN, Split.HELDOUT])
def test_the_reader_gives_each_sample_its_features_and_frames_from_both(parts, split):
    reader = ShardReader(parts / "mixture", split)
    assert reader.encoders == made.ENCODERS
    counts = made.TRAIN if split is Split.TRAIN else made.HELDOUT
    for position, packed in enumerate(made.samples(counts, split)):
        stored = reader.read(position, made.NAMES, frames=True)
        assert list(stored.features) == list(stored.frames) == made.NAMES
        wanted = made.WITH_FRAMES.carries_frames(packed.sample.modality, packed.sample.category)
        for name in made.NAMES:
            np.testing.assert_array_equal(stored.features[name], packed.features.arrays[name])
            frames = packed.features.frames[name]
            np.testing.assert_array_equal(stored.frames[name], frames if wanted else frames[:0])


def test_a_samples_own_json_speaks_of_the_shards_encoders_only(parts):
    sample = ShardReader(parts / "mixture", Split.TRAIN).read(0, ()).sample
    assert sample.encoders == made.ENCODERS[:1]


def test_plain_webdataset_zips_shards_and_column(parts):
    def samples(pattern: str) -> list[dict]:
        urls = sorted(map(str, (parts / "mixture" / "shards").glob(pattern)))
        return list(webdataset.WebDataset(urls, shardshuffle=False).decode())

    shards, column = samples("train-??????.tar"), samples(f"train-??????.{COLUMN}.tar")
    assert [s["__key__"] for s in shards] == [c["__key__"] for c in column]
    assert len(shards) == 40
    for sample in column:
        told = ColumnSample.model_validate(sample[f"{COLUMN}.json"])
        assert (told.key, told.encoder) == (sample["__key__"], made.ENCODERS[1])
    fields = {field for field in column[0] if not field.startswith("__")}
    assert fields == {f"{COLUMN}.json", f"{COLUMN}.npy", f"{COLUMN}.frames.npy"}


def test_a_column_that_is_not_asked_for_is_not_opened(parts, tmp_path):
    mixture = shutil.copytree(parts / "mixture", tmp_path / "mixture")
    for path in [*(mixture / "shards").glob(f"*.{COLUMN}.tar"), mixture / f"index.{COLUMN}.parquet"]:
        path.unlink()
    reader = ShardReader(mixture, "train")
    assert list(reader.read(3, ["siglip"]).features) == ["siglip"]
    with pytest.raises(ShardError, match=f"no index.{COLUMN}.parquet: its column {COLUMN} is not whole"):
        reader.read(3, made.NAMES)


def test_a_column_of_other_samples_is_refused(parts, tmp_path):
    mixture = shutil.copytree(parts / "mixture", tmp_path / "mixture")
    path = mixture / f"index.{COLUMN}.parquet"
    table = pq.read_table(path)
    turned = pa.concat_tables([table.slice(1, 1), table.slice(0, 1), table.slice(2)])
    pq.write_table(turned, path)
    with pytest.raises(ShardError, match="of other samples than index"):
        ShardReader(mixture, "train").read(0, [COLUMN])


def test_a_column_of_two_weights_is_refused(tmp_path):
    other = tuple(e.model_copy(update={"weights_sha256": sha256_text("other")}) for e in made.ENCODERS)
    one, two = made.make_packed(1, Modality.IMAGE), made.make_packed(2, Modality.IMAGE, encoders=other)
    rows = [Encoded(each.sample, each.features) for each in (one, two)]
    with pytest.raises(ValueError, match=f"features of {two.sample.key} come from"):
        write_column(tmp_path, COLUMN, {Split.TRAIN: rows}, made.WITH_FRAMES, {})
    assert not (tmp_path / "column.json").exists()


def test_equal_samples_give_equal_columns(parts, tmp_path):
    made.build_with_column(tmp_path)
    once, twice = files(parts / "mixture"), files(tmp_path / "mixture")
    assert [name for name in once if once[name].read_bytes() != twice[name].read_bytes()] == []
    assert WrittenColumn.read(tmp_path / "column") == WrittenColumn.read(parts / "column")


def test_a_mixture_whose_encoders_are_all_columns_has_shards_of_json_alone(tmp_path):
    splits = {Split.TRAIN: list(made.samples(made.TRAIN, Split.TRAIN))}
    account = made.account(heldout={})
    write_mixture(tmp_path / "shards", splits, [], made.WITHOUT_FRAMES, account)
    for name in made.NAMES:
        rows = {Split.TRAIN: (Encoded(each.sample, each.features) for each in splits[Split.TRAIN])}
        write_column(tmp_path / name, name, rows, made.WITHOUT_FRAMES, made.every(12, made.TRAIN))
    columns = {name: tmp_path / name for name in made.NAMES}
    ledger = join(tmp_path / "mixture", tmp_path / "shards", columns, made.NAMES, sha256_text("recipe"))
    assert ledger.in_shards == ()
    stored = ShardReader(tmp_path / "mixture", "train").read(7, made.NAMES)
    for name in made.NAMES:
        np.testing.assert_array_equal(stored.features[name], splits[Split.TRAIN][7].features.arrays[name])
    assert "RANDOM WEIGHTS: siglip, internvideo2" in (tmp_path / "mixture" / "README.md").read_text()


def test_features_of_a_column_are_those_of_its_key(tmp_path):
    one, two = made.make_packed(1, Modality.IMAGE), made.make_packed(2, Modality.IMAGE)
    swapped = Encoded(one.sample, one.features), Encoded(two.sample, one.features)
    with pytest.raises(ValueError, match="the column's"):
        write_column(tmp_path, COLUMN, {Split.TRAIN: swapped}, made.WITH_FRAMES, {})


def test_shards_and_a_column_of_other_samples_are_never_joined(parts, tmp_path):
    rows = [Encoded(each.sample, each.features) for each in made.samples(made.TRAIN, Split.TRAIN)]
    held = [Encoded(each.sample, each.features) for each in made.samples(made.HELDOUT, Split.HELDOUT)]
    write_column(tmp_path / "c", COLUMN, {Split.TRAIN: rows[::-1], Split.HELDOUT: held}, made.WITH_FRAMES, {})
    columns = {COLUMN: tmp_path / "c"}
    with pytest.raises(ValueError, match="of other train samples than the shards"):
        join(tmp_path / "mixture", parts / "shards", columns, made.NAMES, sha256_text("recipe"))
