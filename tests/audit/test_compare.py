"""Laws of `mixture audit A --against B`: each test changes one thing, and that alone is told."""

import json
import shutil
from dataclasses import replace
from fractions import Fraction

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shard_factory as made

from pipeline.audit.audit import audit
from pipeline.audit.compare import compare
from pipeline.audit.difference import KEPT_A_KIND
from pipeline.shards.writer import write_mixture
from schemas.base import InputError
from schemas.conversation import Role, Turn
from schemas.sample import Generator, Split

SPEC = made.WITH_FRAMES
NOTHING = {"added": 0, "removed": 0, "text": 0, "media": 0, "features": 0, "labels": 0, "split": 0}


def write(folder, change=lambda packed: packed, spec=SPEC, encoders=made.ENCODERS):
    """The factory's mixture, each sample through `change`, which may leave it out (None)."""
    folder.mkdir()
    counts = {Split.HELDOUT: made.HELDOUT, Split.TRAIN: made.TRAIN}
    kept = {split: [change(each) for each in made.samples(n, split)] for split, n in counts.items()}
    rows = {split: made.as_asked([each for each in all_ if each], spec) for split, all_ in kept.items()}
    write_mixture(folder, rows, made.NAMES, spec, made.account())
    return folder


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    return write(tmp_path_factory.mktemp("before") / "mixture")


def told(difference):
    return {name: getattr(difference, name) for name in NOTHING}


def only(key, change):
    return lambda packed: change(packed) if packed.sample.key == key else packed


def with_sample(packed, **update):
    return replace(packed, sample=packed.sample.model_copy(update=update))


def a_film(before):
    return next(k for k in keys_in(before) if "train-video" in k)


def keys_in(folder):
    return pq.read_table(folder / "index.parquet")["key"].to_pylist()


def test_a_mixture_does_not_differ_from_itself(before):
    found = compare(before, before)
    assert found.identical
    assert told(found) == NOTHING
    assert (found.kept, found.keys, found.settings, found.encoders) == (45, {}, {}, ())
    assert found.shards.unchanged == len(found.shards.rewritten) + 5 == 5
    assert all(pair.before == pair.after for table in found.counts.values() for pair in table.values())
    assert {label: (s.added, s.removed) for label, s in found.strata.items() if s.added or s.removed} == {}


def test_a_removed_and_an_added_sample_are_named_and_their_strata_counted(before, tmp_path):
    gone = a_film(before)
    after = write(tmp_path / "after", lambda packed: None if packed.sample.key == gone else packed)
    found = compare(after, before)
    assert told(found) == NOTHING | {"removed": 1}
    assert (found.kept, found.keys) == (44, {"removed": (gone,)})
    assert found.strata["train/video/shapes"].model_dump() == {"before": 16, "after": 15, "added": 0, "removed": 1}
    assert found.counts["by_modality"]["train/video"].model_dump() == {"before": 16, "after": 15}
    assert found.shares["train/video"].before == Fraction(40)
    assert found.shares["train/video"].after == Fraction(1500, 39)
    back = compare(before, after)
    assert told(back) == NOTHING | {"added": 1}
    assert back.keys == {"added": (gone,)}
    assert back.strata["train/video/shapes"].model_dump() == {"before": 15, "after": 16, "added": 1, "removed": 0}


def test_a_changed_turn_is_another_text_and_nothing_else(before, tmp_path):
    turns = (Turn(role=Role.USER, content="Why?"), Turn(role=Role.ASSISTANT, content="Because."))

    def change(packed):
        return replace(packed, conversation=packed.conversation.model_copy(update={"turns": turns}))

    key = a_film(before)
    found = compare(write(tmp_path / "after", only(key, change)), before)
    assert told(found) == NOTHING | {"text": 1}
    assert found.keys == {"text": (key,)}
    assert len(found.shards.rewritten) == 1
    assert found.shards.unchanged == 4


def test_another_film_under_the_same_key_has_other_media_and_features(before, tmp_path):
    def change(packed):
        media = tuple(medium.model_copy(update={"sha256": "e" * 64}) for medium in packed.sample.media)
        sample = packed.sample.model_copy(update={"media": media})
        talk = packed.conversation.model_copy(update={"binding_sha256": sample.binding_sha256()})
        return replace(packed, sample=sample, conversation=talk)

    found = compare(write(tmp_path / "after", only(a_film(before), change)), before)
    assert told(found) == NOTHING | {"media": 1, "features": 1}


def test_other_frames_of_the_same_film_are_told(before, tmp_path):
    def change(packed):
        meta = packed.features.meta
        first = meta.clips[0].model_copy(update={"pts_ns": (0, 0, 0, 0)})
        clips = (first, *meta.clips[1:])
        return replace(packed, features=replace(packed.features, meta=meta.model_copy(update={"clips": clips})))

    found = compare(write(tmp_path / "after", only(a_film(before), change)), before)
    assert told(found) == NOTHING | {"media": 1, "features": 1}


@pytest.mark.parametrize(
    ("update", "field", "came", "went"),
    [
        ({"licence": "MIT"}, "licences", ("MIT",), ()),
        ({"annotator": Generator(name="gpt-4o")}, "annotators", ("gpt-4o",), ()),
    ],
)
def test_terms_that_come_and_go_are_named(before, tmp_path, update, field, came, went):
    key = a_film(before)
    after = write(tmp_path / "after", only(key, lambda packed: with_sample(packed, **update)))
    found, back = compare(after, before), compare(before, after)
    assert (found.origins[field].came, found.origins[field].went) == (came, went)
    assert (back.origins[field].came, back.origins[field].went) == (went, came)
    assert found.labels == (1 if field == "licences" else 0)  # the index names no annotator
    assert {name for name, lists in found.origins.items() if lists.came or lists.went} == {field}


def test_other_weights_change_the_features_of_all_that_have_media(before, tmp_path):
    other = tuple(
        e.model_copy(update={"weights_sha256": "f" * 64}) if e.name == "siglip" else e for e in made.ENCODERS
    )

    def change(packed):
        meta = packed.features.meta.model_copy(update={"encoders": other})
        return replace(packed, features=replace(packed.features, meta=meta))

    found = compare(write(tmp_path / "after", change), before)
    assert told(found) == NOTHING | {"features": 40}
    assert [(e.encoder, e.change, e.fields) for e in found.encoders] == [("siglip", "changed", ("weights_sha256",))]
    assert found.shards.unchanged == 0


def test_an_encoder_that_moves_to_a_column_changes_no_sample(before, tmp_path):
    made.build_with_column(tmp_path)
    after = tmp_path / "mixture"
    found = compare(after, before)
    assert told(found) == NOTHING
    assert [(e.encoder, e.change) for e in found.encoders] == [("internvideo2", "moved")]
    assert len(found.columns.new) == 5
    assert [(e.encoder, e.change) for e in compare(after, tmp_path / "shards").encoders] == [
        ("internvideo2", "added")
    ]
    gone = compare(tmp_path / "shards", after)
    assert [(e.encoder, e.change) for e in gone.encoders] == [("internvideo2", "removed")]
    assert (len(gone.columns.gone), gone.shards.unchanged) == (5, 5)


def test_a_sample_in_another_split_is_kept_and_told(before, tmp_path):
    after = tmp_path / "after"
    shutil.copytree(before, after)
    rows = pq.read_table(after / "index.parquet").to_pylist()
    film = next(row for row in rows if "train-video" in row["key"])
    held = next(row for row in rows if row["split"] == "heldout")
    film["key"], held["key"] = held["key"], film["key"]
    rewrite(after, rows)
    assert compare(after, before).split == 2


def rewrite(folder, rows, schema=None):
    table = pa.Table.from_pylist(rows, schema=schema or pq.read_schema(folder / "index.parquet"))
    pq.write_table(table, folder / "index.parquet")


def test_a_repacked_mixture_has_other_tars_and_the_same_samples(before, tmp_path):
    after = write(tmp_path / "after", spec=SPEC.model_copy(update={"samples_per_shard": 20}))
    found = compare(after, before)
    assert told(found) == NOTHING
    assert not found.identical
    assert found.shards.gone == ("shards/train-000002.tar", "shards/train-000003.tar")
    # The heldout tar holds the same bytes; two train tars kept their names.
    assert (found.shards.unchanged, len(found.shards.rewritten), found.shards.new) == (1, 2, ())


def test_no_tar_is_read(before, tmp_path):
    after = tmp_path / "after"
    shutil.copytree(before, after)
    shutil.rmtree(after / "shards")
    assert compare(after, before).identical


def test_an_index_of_an_older_build_leaves_text_and_media_untold(before, tmp_path):
    after = tmp_path / "after"
    shutil.copytree(before, after)
    table = pq.read_table(after / "index.parquet").drop_columns(["text_digest", "media_digest"])
    pq.write_table(table, after / "index.parquet")
    found = compare(after, before)
    assert (found.text, found.media, found.features) == (None, None, None)
    assert found.kept == 45
    assert any("is of an older build" in note for note in found.notes)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "index.parquet").unlink(),
        lambda folder: (folder / "index.parquet").write_bytes(b"PAR1 no parquet PAR1"),
        lambda folder: (folder / "ledger.json").write_text("{}"),
        lambda folder: pq.write_table(pa.table({"other": [1]}), folder / "index.parquet"),
        lambda folder: rewrite_column(folder, "clips", None),
        lambda folder: rewrite_column(folder, "key", pa.array(range(45))),
        lambda folder: rewrite_column(folder, "category", pa.array([["list"]] * 45)),
    ],
)
def test_what_cannot_be_read_is_bad_input(before, tmp_path, spoil):
    after = tmp_path / "after"
    shutil.copytree(before, after)
    spoil(after)
    for one, other in ((after, before), (before, after)):
        with pytest.raises(InputError, match="cannot be compared"):
            compare(one, other)


def rewrite_column(folder, name, values):
    table = pq.read_table(folder / "index.parquet").drop_columns([name])
    pq.write_table(table if values is None else table.append_column(name, values), folder / "index.parquet")


@pytest.mark.parametrize("field", ["modality", "source", "licence", "split"])
def test_an_index_that_is_not_its_ledgers_is_refused(before, tmp_path, field):
    after = tmp_path / "after"
    shutil.copytree(before, after)
    rows = pq.read_table(after / "index.parquet").to_pylist()
    rows[0][field] = "image" if field == "modality" else "heldout" if field == "split" else "elsewhere"
    rewrite(after, rows)
    with pytest.raises(InputError, match="is not the index of its ledger"):
        compare(after, before)


def test_quotas_and_gates_that_differ_are_told(before, tmp_path):
    after = tmp_path / "after"
    shutil.copytree(before, after)
    ledger = json.loads((after / "ledger.json").read_text())
    ledger["gates"] = {"licences": {"allow": ["CC*"]}}
    ledger["asked"][0].update(asked=6)
    (after / "ledger.json").write_text(json.dumps(ledger))
    found = compare(after, before)
    assert found.settings.keys() == {"gates", "asked"}
    assert '"allow":["CC*"]' in found.settings["gates"].after
    assert audit(after).finding_counts  # and so it is, whatever the comparison says


def test_only_the_first_keys_of_a_kind_are_named(before, tmp_path):
    after = write(tmp_path / "after", lambda p: None if p.sample.key.startswith("train-video") else p)
    found = compare(after, before)
    assert found.removed == 16
    assert len(found.keys["removed"]) == KEPT_A_KIND
