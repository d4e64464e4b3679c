"""Part files: what is read is what was written, and no more of the file than was asked for is read."""

import io

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from toy_stages import toy_sample

from pipeline.runtime.rows import read_outline, read_records, read_row, read_rows, read_types, write_rows
from schemas.arrays import ClipTimes, Features, FeaturesMeta
from schemas.npy import from_npy, npy_body, npy_header
from schemas.sample import Sample

CLIP = ClipTimes(start_ns=0, exclusive_end_ns=1, t_ns=(0,), pts_ns=(0,))


def features(key: str, seed: int, channels: int = 8) -> Features:
    rng = np.random.default_rng(seed)
    scale = rng.standard_normal((1, 1, 3, 1, 1)).astype(np.float16)
    codes = rng.integers(-9, 9, (1, 1, 3, 1, channels), np.int8)
    tokens = rng.standard_normal((1, 1, 2, 2, channels)).astype(np.float16)
    frames = rng.integers(0, 256, (7,), np.uint8)
    meta = FeaturesMeta(key=key, clips=(CLIP,))
    return Features(meta, {"video": codes, "video.scale": scale, "siglip": tokens}, {"siglip": frames})


WRITTEN = [features("k0", 0), toy_sample("k1"), features("k2", 2, 7), features("k3", 3), toy_sample("k4")]
"""Of seven channels the codes are an odd number of bytes, so what lies behind them is not aligned."""


@pytest.fixture
def part(tmp_path):
    write_rows(tmp_path / "part", WRITTEN)
    return tmp_path / "part"


def all_arrays(of: Features):
    return {**of.arrays, **{f"frames of {name}": array for name, array in of.frames.items()}}


def check_same(back, written):
    assert back.key == written.key
    if not isinstance(written, Features):
        assert back == written
        return
    assert back.meta == written.meta
    found, asked = all_arrays(back), all_arrays(written)
    assert list(found) == list(asked)
    for name, array in asked.items():
        assert found[name].dtype == array.dtype
        assert found[name].flags.aligned
        assert not found[name].flags.writeable
        np.testing.assert_array_equal(found[name], array)


def test_outcomes_come_back_whole_and_in_order(part):
    assert read_types(part) == [(each.key, type(each).__name__) for each in WRITTEN]
    assert list(read_rows(part, Sample)) == [WRITTEN[1], WRITTEN[4]]
    for back, written in zip(read_rows(part, Features), [WRITTEN[0], WRITTEN[2], WRITTEN[3]], strict=True):
        check_same(back, written)
    for index in (4, 2, 0, 3, 1):
        check_same(read_row(part, index), WRITTEN[index])


def test_equal_outcomes_give_equal_files_whatever_the_memory_order_of_their_arrays(part, tmp_path):
    other = [
        Features(each.meta, {n: np.asfortranarray(a) for n, a in each.arrays.items()}, each.frames)
        if isinstance(each, Features)
        else each
        for each in WRITTEN
    ]
    write_rows(tmp_path / "other", other)
    assert (tmp_path / "other").read_bytes() == part.read_bytes()


def test_an_outline_tells_record_shapes_and_dtypes(part):
    for index, written in enumerate(WRITTEN):
        outline = read_outline(part, index)
        if not isinstance(written, Features):
            assert outline == written
            continue
        assert outline.meta == written.meta
        told = {name: (array.shape, array.dtype, array.nbytes) for name, array in all_arrays(outline).items()}
        assert told == {name: (a.shape, a.dtype, a.nbytes) for name, a in all_arrays(written).items()}


class Elsewhere:
    """A part file that is not on this machine's disk; counts what is read of it."""

    def __init__(self, path):
        self.path, self.read = path, 0

    def stat(self):
        return self.path.stat()

    def open(self, mode):
        assert mode == "rb"
        where = self

        class Counted(io.FileIO):
            def read(self, size=-1):
                data = super().read(size)
                where.read += len(data)
                return data

        return Counted(self.path)


def test_records_types_and_outlines_of_a_file_elsewhere_cost_none_of_its_arrays_and_a_row_its_own(tmp_path):
    many = [features(f"k{n}", n, 50_000) for n in range(8)]
    write_rows(tmp_path / "part", many)
    size = (tmp_path / "part").stat().st_size
    away = Elsewhere(tmp_path / "part")
    assert [key for key, _ in read_types(away)] == [each.key for each in many]
    assert [each.key for each in read_records(away)] == [each.key for each in many]
    assert read_outline(away, 5).key == "k5"
    assert away.read < size / 20
    check_same(read_row(away, 5), many[5])
    assert size / 8 <= away.read < size / 8 + size / 20


def test_the_first_batch_holds_every_record_and_each_further_one_a_row(part):
    reader = pa.ipc.open_file(part)
    batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
    assert batches[0]["key"].to_pylist() == [each.key for each in WRITTEN]
    assert [batch["key"].to_pylist() for batch in batches[1:]] == [["k0"], ["k2"], ["k3"]]


def test_a_part_without_outcomes_can_be_read(tmp_path):
    write_rows(tmp_path / "part", [])
    assert read_types(tmp_path / "part") == []


@given(
    arrays(
        st.sampled_from([np.int8, np.dtype("<f2"), np.dtype(">f2"), np.uint8, np.float32]),
        st.lists(st.integers(0, 4), max_size=5).map(tuple),
    )
)
def test_header_and_body_are_the_file_that_numpy_saves(array):
    plain = np.array(array, array.dtype.newbyteorder("<"), order="C")
    stream = io.BytesIO()
    np.save(stream, plain)
    data = npy_header(array) + bytes(npy_body(array))
    assert data == stream.getvalue()
    np.testing.assert_array_equal(from_npy(data), plain)
