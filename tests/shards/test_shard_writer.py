import hashlib
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shard_factory as made
import webdataset

from pipeline.shards.members import Packed
from pipeline.shards.packing import Cuts, write_tars
from pipeline.shards.writer import _Encoders, _rows, write_mixture
from schemas.arrays import Features
from schemas.base import digest, sha256_text
from schemas.ledger import Count, Ledger, ShardSample
from schemas.sample import Modality, Split


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("mixture")
    made.build(where)
    return where


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def in_another_memory_order(packed: Packed) -> Packed:
    arrays = {
        name: np.asfortranarray(array).astype(">f2").astype("<f2") for name, array in packed.features.arrays.items()
    }
    frames = {name: np.asfortranarray(array) for name, array in packed.features.frames.items()}
    return replace(packed, features=Features(packed.features.meta, arrays, frames))


def test_equal_samples_give_equal_bytes_in_every_file(folder, tmp_path):
    splits = {
        split: map(in_another_memory_order, made.samples(counts, split))
        for split, counts in ((Split.TRAIN, made.TRAIN), (Split.HELDOUT, made.HELDOUT))
    }
    write_mixture(tmp_path, splits, made.NAMES, made.WITH_FRAMES, made.account())
    once, twice = contents(folder), contents(tmp_path)
    assert once.keys() == twice.keys()
    assert [name for name in once if once[name] != twice[name]] == []


def test_the_files_are_the_ones_promised_and_nothing_is_left_of_the_writing(folder):
    tars = [f"shards/train-{n:06d}.tar" for n in range(4)] + ["shards/heldout-000000.tar"]
    sidecars = [".nv-meta/.info.json", ".nv-meta/dataset.yaml", ".nv-meta/split.yaml"]
    sidecars += ["shardindex-heldout.json", "shardindex-train.json"]
    rest = ["README.md", "index.parquet", "ledger.json"]
    assert sorted(contents(folder)) == sorted([*tars, *(f"{tar}.idx" for tar in tars), *sidecars, *rest])


def test_no_file_tells_where_it_was_written(folder):
    assert [name for name, data in contents(folder).items() if str(folder).encode() in data] == []


def test_plain_webdataset_reads_every_key_field_and_array(folder):
    tars = sorted(str(path) for path in (folder / "shards").glob("train-*.tar"))
    expected = list(made.samples(made.TRAIN, Split.TRAIN))
    found = list(webdataset.WebDataset(tars, shardshuffle=False).decode())
    assert [sample["__key__"] for sample in found] == [packed.sample.key for packed in expected]
    for sample, packed in zip(found, expected, strict=True):
        fields = {field for field in sample if not field.startswith("__")}
        assert fields == {"json", *(f"{n}.npy" for n in made.NAMES), *(f"{n}.frames.npy" for n in made.NAMES)}
        turns = [(turn.role, turn.content) for turn in packed.conversation.turns]
        assert [(turn["role"], turn["content"]) for turn in sample["json"]["conversations"]] == turns
        for name in made.NAMES:
            assert sample[f"{name}.npy"].dtype == np.float16
            np.testing.assert_array_equal(sample[f"{name}.npy"], packed.features.arrays[name])


def test_frames_are_stored_for_films_of_the_categories_asked_and_empty_elsewhere(folder):
    tars = sorted(str(path) for path in (folder / "shards").glob("train-*.tar"))
    stored = {sample["__key__"]: sample for sample in webdataset.WebDataset(tars, shardshuffle=False).decode()}
    kept = 0
    for packed in made.samples(made.TRAIN, Split.TRAIN):
        wanted = packed.sample.modality is Modality.VIDEO and packed.sample.category in made.WITH_FRAMES.frames_for
        kept += wanted
        for name in made.NAMES:
            pixels = packed.features.frames[name]
            np.testing.assert_array_equal(
                stored[packed.sample.key][f"{name}.frames.npy"], pixels if wanted else pixels[:0]
            )
    assert 0 < kept < made.TRAIN[Modality.VIDEO]


def test_members_are_ustar_of_nobody_at_time_zero_and_json_first(folder):
    for path in sorted((folder / "shards").glob("*.tar")):
        data = path.read_bytes()
        assert len(data) % tarfile.RECORDSIZE == 0
        assert data.endswith(bytes(2 * tarfile.BLOCKSIZE))
        with tarfile.open(path) as tar:
            members = tar.getmembers()
        by_key: dict[str, list[str]] = {}
        for member in members:
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
            assert (member.mode, member.type, member.pax_headers) == (0o644, tarfile.REGTYPE, {})
            assert data[member.offset + 257 : member.offset + 265] == b"ustar\x0000"
            assert member.offset_data == member.offset + tarfile.BLOCKSIZE
            key, _, suffix = member.name.partition(".")
            by_key.setdefault(key, []).append(suffix)
        order = ["json", "siglip.npy", "internvideo2.npy", "siglip.frames.npy", "internvideo2.frames.npy"]
        assert set(map(tuple, by_key.values())) == {tuple(order)}


def test_the_ledger_names_each_tar_by_its_own_digest(folder):
    ledger = Ledger.model_validate_json((folder / "ledger.json").read_bytes())
    for entry in ledger.shards:
        data = (folder / entry.name).read_bytes()
        assert (entry.sha256, entry.size_bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    assert [entry.name for entry in ledger.shards][-1] == "shards/heldout-000000.tar"
    assert ledger.root_sha256 == digest([entry.sha256 for entry in ledger.shards])


def sizes_in(path):
    with tarfile.open(path) as tar:
        return {member.name: member.size for member in tar}


def test_the_ledger_counts_what_was_written(folder):
    ledger = Ledger.model_validate_json((folder / "ledger.json").read_bytes())
    expected = list(made.samples(made.HELDOUT, Split.HELDOUT))
    with tarfile.open(folder / "shards/heldout-000000.tar") as tar:
        size_bytes = sum(member.size for member in tar.getmembers())
    count = Count(
        samples=5, turns=sum(len(p.conversation.turns) for p in expected), clips=10, frames=40,
        visual_tokens=40 * 16, media_ns=5 * 3_100_000_000, bytes=size_bytes,
    )  # fmt: skip
    assert ledger.total["heldout"] == ledger.by_modality["heldout/video"] == count
    assert ledger.by_source["heldout/shapes"] == ledger.by_generator["heldout/template"] == count
    assert ledger.by_licence["heldout/CC0-1.0"] == ledger.shards[-1].count == count
    held = {name: size for p in (folder / "shards").glob("heldout-*.tar") for name, size in sizes_in(p).items()}
    siglip = sum(size for name, size in held.items() if ".siglip." in name)
    assert ledger.by_encoder["heldout/siglip"] == count.model_copy(update={"bytes": siglip})
    assert ledger.by_encoder["train/siglip"].samples == 40 - made.TRAIN[Modality.TEXT]
    assert ledger.by_annotator["train/human"].samples == made.TRAIN[Modality.IMAGE]
    everything = [*made.samples(made.TRAIN, Split.TRAIN), *expected]
    categories = Counter(f"{p.sample.split}/{p.sample.category}" for p in everything)
    assert {label: count.samples for label, count in ledger.by_category.items()} == categories
    assert {row.stratum: row.found for row in ledger.asked} == {row.stratum: row.asked for row in ledger.asked}
    assert ledger.origins["photos"].licences == ("CC-BY-4.0",)
    assert ledger.origins["photos"].annotators == ("human",)


def test_the_text_digest_binds_key_media_and_turns(folder):
    with tarfile.open(folder / "shards/train-000000.tar") as tar:
        member = tar.extractfile(tar.next())
        record = ShardSample.model_validate_json(member.read())
    packed = next(made.samples(made.TRAIN, Split.TRAIN))
    turns = [{"role": turn.role.value, "content": turn.content} for turn in packed.conversation.turns]
    assert record.binding_sha256 == packed.sample.binding_sha256()
    assert record.text_sha256 == digest([packed.sample.key, packed.sample.binding_sha256(), turns])
    assert record.questions == ({"question": "What?", "answer": "A blob.", "topic": "shape", "evidence": "frame"},)


def test_samples_are_taken_one_shard_at_a_time(tmp_path):
    taken = []

    def stream():
        for packed in made.samples(made.TRAIN, Split.TRAIN):
            taken.append(packed.sample.key)
            yield packed

    rows = _rows(stream(), Split.TRAIN, _Encoders(made.NAMES), made.WITH_FRAMES)
    shards = write_tars(tmp_path, Split.TRAIN, rows, Cuts.full(made.WITH_FRAMES), 1)
    for number in range(1, 4):
        next(shards)
        assert len(taken) == 12 * number


def test_a_writer_that_fails_leaves_whole_tars_or_none_and_no_ledger(tmp_path):
    def stream():
        yield from list(made.samples(made.TRAIN, Split.TRAIN))[:15]
        raise RuntimeError("a worker died")

    with pytest.raises(RuntimeError, match="a worker died"):
        write_mixture(tmp_path, {Split.TRAIN: stream()}, made.NAMES, made.WITH_FRAMES, made.account())
    assert sorted(contents(tmp_path)) == ["shards/train-000000.tar", "shards/train-000000.tar.idx"]


def test_a_talk_of_another_sample_is_refused():
    one, other = made.make_packed(1, Modality.VIDEO), made.make_packed(2, Modality.VIDEO)
    with pytest.raises(ValueError, match="pack records of one key"):
        replace(one, conversation=other.conversation)
    changed = one.conversation.model_copy(update={"binding_sha256": sha256_text("other media")})
    with pytest.raises(ValueError, match="made from other media or annotations"):
        replace(one, conversation=changed)


def write_train(folder: Path, *packed: Packed, encoders: list[str] = made.NAMES) -> None:
    write_mixture(folder, {Split.TRAIN: packed}, encoders, made.WITH_FRAMES, made.account())


def test_features_of_other_weights_are_refused(tmp_path):
    other = tuple(e.model_copy(update={"weights_sha256": sha256_text("other")}) for e in made.ENCODERS)
    mixed = made.make_packed(1, Modality.IMAGE), made.make_packed(2, Modality.IMAGE, encoders=other)
    with pytest.raises(ValueError, match="encode all samples with the same weights"):
        write_train(tmp_path, *mixed)


def test_encoders_out_of_the_recipes_order_are_refused(tmp_path):
    with pytest.raises(ValueError, match="in the order"):
        write_train(tmp_path, made.make_packed(1, Modality.IMAGE), encoders=made.NAMES[::-1])


def test_a_sample_of_another_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is of split heldout, but was handed in for train"):
        write_train(tmp_path, made.make_packed(1, Modality.VIDEO, Split.HELDOUT))


def test_a_mixture_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no samples"):
        write_train(tmp_path)


def test_a_member_name_that_other_readers_would_cut_is_refused(tmp_path):
    named = tuple(e.model_copy(update={"name": f"e{number}" + "x" * 28}) for number, e in enumerate(made.ENCODERS))
    packed = made.make_packed(1, Modality.TEXT, encoders=named)
    sample = packed.sample.model_copy(update={"key": "k" * 60})
    meta = packed.features.meta.model_copy(update={"key": sample.key})
    talk = {"key": sample.key, "binding_sha256": sample.binding_sha256()}
    long = Packed(
        sample,
        packed.conversation.model_copy(update=talk),
        Features(meta, packed.features.arrays, packed.features.frames),
    )
    with pytest.raises(ValueError, match="shorten the key or the encoder's name"):
        write_train(tmp_path, long, encoders=[e.name for e in named])


def test_frames_that_are_promised_but_missing_are_refused(tmp_path):
    packed = made.make_packed(2, Modality.VIDEO)
    emptied = {name: array[:0] for name, array in packed.features.frames.items()}
    with pytest.raises(ValueError, match="2 clips but siglip frames of 0"):
        write_train(
            tmp_path, replace(packed, features=Features(packed.features.meta, packed.features.arrays, emptied))
        )
    with pytest.raises(ValueError, match="no frames of encoder 'siglip'"):
        write_train(tmp_path, replace(packed, features=Features(packed.features.meta, packed.features.arrays, {})))
