import multiprocessing
import pickle
import random
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import shard_factory as made

from pipeline.shards.reader import ShardError, ShardReader
from schemas.sample import Category, Modality, Split


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("mixture")
    made.build(where)
    return where


@pytest.fixture
def copy(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "mixture")
    return tmp_path / "mixture"


def assert_equal_to(stored, packed):
    assert stored.sample.key == packed.sample.key
    assert stored.sample.conversations == packed.conversation.turns
    assert stored.sample.generator == packed.conversation.generator
    assert stored.sample.clips == packed.features.meta.clips
    assert stored.sample.encoders == packed.features.meta.encoders
    for field in ("source", "modality", "category", "split", "licence", "annotator", "media"):
        assert getattr(stored.sample, field) == getattr(packed.sample, field)
    for name, array in packed.features.arrays.items():
        assert stored.features[name].dtype == np.float16
        np.testing.assert_array_equal(stored.features[name], array)


@pytest.mark.parametrize(("split", "counts"), [(Split.TRAIN, made.TRAIN), (Split.HELDOUT, made.HELDOUT)])
def test_every_sample_comes_back_in_any_order(folder, split, counts):
    reader, expected = ShardReader(folder, split), list(made.samples(counts, split))
    assert len(reader) == len(expected)
    order = list(range(len(expected)))
    random.Random(0).shuffle(order)
    for position in order:
        stored, packed = reader.read(position, made.NAMES, frames=True), expected[position]
        assert_equal_to(stored, packed)
        wanted = packed.sample.category is Category.TEMPORAL_PERCEPTION
        for name, pixels in packed.features.frames.items():
            np.testing.assert_array_equal(stored.frames[name], pixels if wanted else pixels[:0])


def test_only_what_is_asked_for_is_read(folder):
    stored = ShardReader(folder, "train").read(3, ["internvideo2"])
    assert list(stored.features) == ["internvideo2"]
    assert stored.frames == {}
    assert ShardReader(folder, "train").read(3, []).features == {}


def test_arrays_are_the_callers_own(folder):
    reader = ShardReader(folder, "train")
    position = reader.positions([Modality.VIDEO])[0]
    first = reader.read(position, ["siglip"]).features["siglip"]
    before = first.copy()
    first += 1
    np.testing.assert_array_equal(reader.read(position, ["siglip"]).features["siglip"], before)


def test_positions_filter_by_modality_and_category(folder):
    reader, packed = ShardReader(folder, "train"), list(made.samples(made.TRAIN, Split.TRAIN))
    kinds = [(p.sample.modality, p.sample.category) for p in packed]
    assert reader.positions() == list(range(40))
    for modality in Modality:
        assert reader.positions([modality]) == [n for n, (m, _) in enumerate(kinds) if m is modality]
    pictures = (Modality.IMAGE, Modality.MULTI_IMAGE)
    assert reader.positions(pictures) == [n for n, (m, _) in enumerate(kinds) if m in pictures]
    both = reader.positions([Modality.VIDEO], [Category.TEMPORAL_PERCEPTION])
    assert both == [n for n, kind in enumerate(kinds) if kind == (Modality.VIDEO, Category.TEMPORAL_PERCEPTION)]
    assert reader.positions([Modality.TEXT], [Category.EGOCENTRIC]) == []


def test_a_key_is_found_at_its_position(folder):
    reader = ShardReader(folder, "train")
    assert [reader.position(p.sample.key) for p in made.samples(made.TRAIN, Split.TRAIN)] == list(range(40))
    with pytest.raises(LookupError, match="no sample 'heldout-video-0000' in this split of 40"):
        reader.position("heldout-video-0000")


def test_a_pickled_reader_reads_the_same(folder):
    reader = pickle.loads(pickle.dumps(ShardReader(folder, "train")))  # noqa: S301
    assert_equal_to(reader.read(7, made.NAMES), list(made.samples(made.TRAIN, Split.TRAIN))[7])


def test_forked_workers_share_a_reader_without_disturbing_each_other(folder):
    reader = ShardReader(folder, "train")
    reader.read(0, made.NAMES)
    positions = list(range(40)) * 5
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.starmap(_key_and_sum, [(reader, position) for position in positions], chunksize=7)
    assert found == [_key_and_sum(reader, position) for position in positions]


def _key_and_sum(reader, position):
    stored = reader.read(position, made.NAMES)
    return stored.sample.key, [float(np.float32(array).sum()) for array in stored.features.values()]


def test_reading_needs_no_torch():
    code = "import sys, pipeline.shards.reader; sys.exit('torch' in sys.modules or 'webdataset' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("position", [-1, 40])
def test_a_position_outside_the_split_is_an_index_error(folder, position):
    with pytest.raises(IndexError, match=f"position {position} of a split of 40"):
        ShardReader(folder, "train").read(position, [])


def test_an_encoder_that_the_shards_lack_is_named(folder):
    with pytest.raises(ValueError, match=r"has no clip\.npy, only json, siglip\.npy"):
        ShardReader(folder, "train").read(0, ["clip"])


def test_frames_that_the_recipe_left_out_are_named(tmp_path):
    made.build(tmp_path, made.WITHOUT_FRAMES)
    with pytest.raises(ValueError, match=r"shards\.frames_for"):
        ShardReader(tmp_path, "train").read(0, ["siglip"], frames=True)


def test_no_mixture_and_no_split_are_told_apart(folder, tmp_path):
    with pytest.raises(ShardError, match=r"has no index\.parquet"):
        ShardReader(tmp_path, "train")
    with pytest.raises(ShardError, match="no sample of split 'test'"):
        ShardReader(folder, "test")


def test_a_truncated_tar_is_named_with_the_sample(copy):
    path = copy / "shards/train-000001.tar"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    reader = ShardReader(copy, "train")
    last = list(made.samples(made.TRAIN, Split.TRAIN))[23].sample.key
    with pytest.raises(ShardError, match=rf"shards/train-000001\.tar, sample {last}: the tar ends at byte"):
        reader.read(23, made.NAMES)
    assert_equal_to(reader.read(12, made.NAMES), list(made.samples(made.TRAIN, Split.TRAIN))[12])


def test_a_missing_tar_is_named_with_the_sample(copy):
    (copy / "shards/train-000001.tar").unlink()
    with pytest.raises(ShardError, match=r"shards/train-000001\.tar, sample .*: cannot open"):
        ShardReader(copy, "train").read(12, [])


def test_a_tar_that_took_anothers_place_is_never_read_as_it(copy):
    (copy / "shards/train-000001.tar").replace(copy / "shards/train-000000.tar")
    reader = ShardReader(copy, "train")
    for position in range(12):
        with pytest.raises(ShardError, match=r"shards/train-000000\.tar, sample .*not the one index\.parquet was"):
            reader.read(position, made.NAMES)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda data: data.replace(b"'<f2'", b"'|O' "), "not a plain npy file"),
        (lambda data: data.replace(b"'<f2'", b"'<u2'"), "is uint16"),
        (lambda data: data.replace(b"False", b"True "), "fortran = True"),
        (lambda data: data.replace(b"(2, 4,", b"(9, 4,"), "bytes of data for"),
        (lambda data: b"\x93NUMPX" + data[6:], "not a plain npy file"),
    ],
)
def test_an_array_that_is_no_plain_float16_is_refused_and_never_unpickled(copy, fault, message):
    reader = ShardReader(copy, "train")
    position = reader.positions([Modality.VIDEO])[0]
    key = reader.read(position, []).sample.key
    path = copy / f"shards/train-{position // 12:06d}.tar"
    with tarfile.open(path) as tar:
        member = tar.getmember(f"{key}.siglip.npy")
    data = bytearray(path.read_bytes())
    span = slice(member.offset_data, member.offset_data + member.size)
    changed = fault(bytes(data[span]))
    assert changed != data[span]
    data[span] = changed
    path.write_bytes(data)
    with pytest.raises(ShardError, match=message):
        reader.read(position, ["siglip"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"key":"train-', b'"key":"other-', "its json is of other-"),
        (b'"conversations":', b'"conversationz":', "its json is not a sample"),
        (b'{"annotator"', b'["annotator"', "its json is not a sample"),
    ],
)
def test_a_json_that_is_not_the_samples_own_is_refused(copy, old, new, message):
    path = copy / "shards/train-000000.tar"
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(ShardError, match=rf"shards/train-000000\.tar, sample train-.*{message}"):
        ShardReader(copy, "train").read(5, [])
