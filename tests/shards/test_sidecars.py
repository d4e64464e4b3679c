import io
import json
import struct
import tarfile
from fnmatch import fnmatch
from itertools import pairwise

import pytest
import shard_factory as made
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.shards.card import card
from pipeline.shards.index import read_index
from pipeline.shards.tar import TarShard
from schemas.ledger import Ledger


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("mixture")
    made.build(where)
    return where


@pytest.fixture(scope="module")
def ledger(folder):
    return Ledger.model_validate_json((folder / "ledger.json").read_bytes())


def front(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def test_each_slice_between_two_offsets_of_a_tar_index_is_one_sample(folder, ledger):
    for entry in ledger.shards:
        raw = (folder / f"{entry.name}.idx").read_bytes()
        offsets = struct.unpack(f"<{len(raw) // 8}Q", raw)
        data = (folder / entry.name).read_bytes()
        assert offsets[0] == 0
        assert len(offsets) == entry.count.samples + 1
        keys = []
        for start, end in pairwise(offsets):
            with tarfile.open(fileobj=io.BytesIO(data[start:end] + bytes(1024))) as tar:
                names = tar.getnames()
            assert len(names) == 5
            (key,) = {name.partition(".")[0] for name in names}
            keys.append(key)
        assert len(set(keys)) == entry.count.samples
        assert data[offsets[-1] :].strip(b"\0") == b""


def test_the_energon_folder_lists_every_tar_by_its_path_from_the_root(folder, ledger):
    info = json.loads((folder / ".nv-meta/.info.json").read_text())
    assert info["shard_counts"] == {entry.name: entry.count.samples for entry in ledger.shards}
    splits = yaml.safe_load((folder / ".nv-meta/split.yaml").read_text())
    assert splits["exclude"] == []
    assert splits["split_parts"] == {
        "train": [f"shards/train-{n:06d}.tar" for n in range(4)],
        "val": ["shards/heldout-000000.tar"],
        "test": [],
    }
    kind = yaml.safe_load((folder / ".nv-meta/dataset.yaml").read_text())
    assert kind == {"__module__": "megatron.energon", "__class__": "CrudeWebdataset"}


def test_the_wids_index_tells_how_many_samples_each_tar_holds(folder):
    for split, total in (("train", 40), ("heldout", 5)):
        index = json.loads((folder / f"shardindex-{split}.json").read_text())
        assert (index["__kind__"], index["wids_version"]) == ("wids-shard-index-v1", 1)
        assert sum(shard["nsamples"] for shard in index["shardlist"]) == total
        for shard in index["shardlist"]:
            assert (folder / shard["url"]).stat().st_size == shard["filesize"]


def test_the_parquet_index_points_at_the_bytes_that_tarfile_finds(folder, ledger):
    rows = [row for split in ("train", "heldout") for row in read_index(folder, split).to_pylist()]
    assert [row["position"] for row in rows] == [*range(40), *range(5)]
    found = {}
    for entry in ledger.shards:
        with tarfile.open(folder / entry.name) as tar:
            for member in tar:
                found.setdefault(member.name.partition(".")[0], []).append((entry.name, member))
    assert [row["key"] for row in rows] == list(found)
    for row in rows:
        members = [member for _, member in found[row["key"]]]
        assert {shard for shard, _ in found[row["key"]]} == {row["shard"]}
        assert row["offset"] == members[0].offset
        assert row["data_offsets"] == [member.offset_data for member in members]
        assert row["sizes"] == [member.size for member in members]
        assert [f"{row['key']}.{suffix}" for suffix in row["members"]] == [member.name for member in members]


@given(payloads=st.lists(st.binary(max_size=1600), min_size=1, max_size=8))
def test_offsets_told_while_writing_are_where_tarfile_finds_the_data(payloads, tmp_path_factory):
    path = tmp_path_factory.mktemp("tar") / "x.tar"
    with TarShard(path) as tar:
        offsets = [tar.add(f"k{number}.bin", payload) for number, payload in enumerate(payloads)]
    data = path.read_bytes()
    assert tar.size == len(data)
    for offset, payload in zip(offsets, payloads, strict=True):
        assert data[offset : offset + len(payload)] == payload
    with tarfile.open(path) as stock:
        assert [member.offset_data for member in stock] == offsets


def test_the_cards_globs_take_the_tars_and_no_sidecar(folder, ledger):
    (config,) = front((folder / "README.md").read_text())["configs"]
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    taken = {files["split"]: {n for n in names if fnmatch(n, files["path"])} for files in config["data_files"]}
    assert taken == {s: {e.name for e in ledger.shards if e.split == s} for s in ("train", "heldout")}


def test_the_card_declares_every_column_that_a_tar_holds(folder, ledger):
    with tarfile.open(folder / ledger.shards[0].name) as tar:
        suffixes = list(dict.fromkeys(name.partition(".")[2] for name in tar.getnames()))
    features = front((folder / "README.md").read_text())["dataset_info"]["features"]
    assert [feature["name"] for feature in features] == [*suffixes, "__key__", "__url__"]
    by_name = {feature["name"]: feature for feature in features}
    assert by_name["json"]["dtype"] == "json"
    assert by_name["siglip.npy"]["list"] == {"list": {"list": {"list": {"list": "float16"}}}}
    assert by_name["siglip.frames.npy"]["list"] == {"list": {"list": {"list": {"list": "uint8"}}}}


def test_random_weights_are_shouted_and_learned_ones_are_not(ledger):
    assert "RANDOM WEIGHTS: siglip, internvideo2" in card(ledger)
    learned = tuple(e.model_copy(update={"weights": "so400m.safetensors"}) for e in ledger.encoders)
    assert "RANDOM" not in card(ledger.model_copy(update={"encoders": learned}))


def test_the_card_names_shares_sources_and_licences(ledger):
    text = card(ledger)
    assert "| train/text | 5 | 12.500 |" in text
    assert "| photos | CC-BY-4.0 | human | template |" in text
    assert ledger.root_sha256 in text


def test_a_strangers_licence_cannot_break_the_cards_table(ledger):
    origin = ledger.origins["photos"].model_copy(update={"licences": ("a | b\n# c",)})
    text = card(ledger.model_copy(update={"origins": {"photos": origin}}))
    assert r"| photos | a \| b # c | human | template |" in text
