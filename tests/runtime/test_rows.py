"""Part files: what is read is what was written, however its rows were grouped."""

import numpy as np
import pytest
from toy_stages import toy_sample

from pipeline.runtime.rows import read_row, read_rows, read_types, write_rows
from schemas.arrays import ClipTimes, Features, FeaturesMeta
from schemas.sample import Sample

CLIP = ClipTimes(start_ns=0, exclusive_end_ns=1, t_ns=(0,), pts_ns=(0,))


def features(key: str, seed: int) -> Features:
    tokens = np.random.default_rng(seed).standard_normal((1, 1, 2, 2, 8)).astype(np.float16)
    return Features(FeaturesMeta(key=key, clips=(CLIP,)), {"siglip": tokens}, {})


@pytest.mark.parametrize("chunk_bytes", [1, 400, 2**30])
def test_outcomes_come_back_whole_and_in_order_from_any_grouping(tmp_path, monkeypatch, chunk_bytes):
    monkeypatch.setattr("pipeline.runtime.rows.CHUNK_BYTES", chunk_bytes)
    written = [features("k0", 0), toy_sample("k1"), features("k2", 2), features("k3", 3), toy_sample("k4")]
    write_rows(tmp_path / "part", written)
    assert read_types(tmp_path / "part") == [(each.key, type(each).__name__) for each in written]
    assert list(read_rows(tmp_path / "part", Sample)) == [written[1], written[4]]
    for index, each in enumerate(written):
        back = read_row(tmp_path / "part", index)
        assert back.key == each.key
        if isinstance(each, Features):
            assert back.meta == each.meta
            np.testing.assert_array_equal(back.arrays["siglip"], each.arrays["siglip"])


def test_a_part_without_outcomes_can_be_read(tmp_path):
    write_rows(tmp_path / "part", [])
    assert read_types(tmp_path / "part") == []
