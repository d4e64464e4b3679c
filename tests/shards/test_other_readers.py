"""Other people's readers, the real packages, on a mixture as it was built: no conversion, nothing prepared."""

import json
import os

import numpy as np
import other_readers as others
import pytest
import torch
import webdataset
import wids
from other_readers import COLUMN, by_key, outline, plain, tars

from pipeline.shards.reader import ShardReader

SPLITS = ("train", "heldout")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return others.build(tmp_path_factory.mktemp("readers"))


def urls(folder, split, column=""):
    return [str(path) for path in tars(folder, split, column)]


def streamed(folder, split, column=""):
    return webdataset.WebDataset(urls(folder, split, column), shardshuffle=False).decode()


class Joined(torch.utils.data.IterableDataset):
    """Sample beside sample, as the card says."""

    def __init__(self, shards, column):
        self._both = shards, column

    def __iter__(self):
        for sample, features in zip(*self._both, strict=True):
            assert sample["__key__"] == features["__key__"]
            yield {**sample, **features}


def joined(folder, split):
    pairs = zip(plain(folder, split), plain(folder, split, COLUMN), strict=True)
    return [{**sample, **features} for sample, features in pairs]


@pytest.mark.parametrize("split", SPLITS)
def test_what_the_tars_hold_is_what_our_own_reader_gives(folder, split):
    reader = ShardReader(folder, split)
    found = joined(folder, split)
    assert len(found) == len(reader) > 1
    empty = 0
    for position, sample in enumerate(found):
        stored = reader.read(position, [COLUMN])
        assert stored.sample.model_dump(mode="json") == sample["json"]
        assert outline({"x": stored.features[COLUMN]})["x"] == sample[f"{COLUMN}.npy"]
        empty += not len(stored.features[COLUMN])
    assert empty


@pytest.mark.parametrize("split", SPLITS)
def test_webdataset_reads_all_in_order(folder, split):
    assert [outline(sample) for sample in streamed(folder, split)] == plain(folder, split)
    assert [outline(sample) for sample in streamed(folder, split, COLUMN)] == plain(folder, split, COLUMN)


@pytest.mark.parametrize("workers", [0, 2])
def test_webdataset_joins_the_column_sample_beside_sample(folder, workers):
    both = Joined(streamed(folder, "train"), streamed(folder, "train", COLUMN))
    loader = torch.utils.data.DataLoader(both, batch_size=None, num_workers=workers)
    found = [outline({n: np.asarray(v) if torch.is_tensor(v) else v for n, v in each.items()}) for each in loader]
    assert by_key(found) == by_key(joined(folder, "train"))
    assert workers or found == joined(folder, "train")


def in_place(path):
    return path


def by_wids(folder, split, column=""):
    index = folder / f"shardindex-{split}.json"
    shards = str(index)
    if column:
        listed = json.loads(index.read_text())["shardlist"]
        shards = [{**s, "url": str(folder / s["url"].replace(".tar", f".{column}.tar"))} for s in listed]
    return wids.ShardListDataset(shards, localname=in_place)


@pytest.mark.parametrize("split", SPLITS)
def test_wids_reads_any_sample_by_its_index_and_the_column_at_the_same_place(folder, split):
    for column in ("", COLUMN):
        dataset, expected = by_wids(folder, split, column), plain(folder, split, column)
        assert len(dataset) == len(expected)
        for place in reversed(range(len(expected))):
            assert outline(dict(dataset[place])) == expected[place]


@pytest.mark.parametrize("workers", [0, 2])
def test_wids_with_workers_brings_each_sample_once(folder, workers):
    dataset = by_wids(folder, "train")
    sampler = wids.ChunkedSampler(dataset, num_samples=len(dataset), chunksize=7, seed=1, shuffle=True)
    loader = torch.utils.data.DataLoader(
        dataset, sampler=sampler, batch_size=4, num_workers=workers, collate_fn=lambda samples: samples
    )
    found = [outline(dict(sample)) for batch in loader for sample in batch]
    assert found != plain(folder, "train")
    assert by_key(found) == by_key(plain(folder, "train"))


@pytest.fixture
def load(folder, tmp_path, monkeypatch):
    """`load_dataset` of the folder, by its card alone."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    return lambda *args, **more: datasets.load_dataset(os.fspath(folder), *args, cache_dir=tmp_path, **more)


def from_lists(dataset):
    """Outlines of samples whose arrays came as nested lists, of the dtype that the card declares."""
    found = []
    for sample in dataset:
        own = {name: value for name, value in sample.items() if name != "__url__"}
        arrays = {name: np.array(v, innermost(dataset.features[name])) for name, v in own.items() if "npy" in name}
        found.append(outline(own | arrays))
    return found


def innermost(feature):
    while hasattr(feature, "feature"):
        feature = feature.feature
    return feature.dtype


def without_shapes_of_empty(samples):
    """An empty list of clips does not tell how large a clip would have been."""
    return [
        {n: [v[0], [0], v[2]] if type(v) is list and v[1][0] == 0 else v for n, v in s.items()} for s in samples
    ]


@pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "prepared"])
@pytest.mark.parametrize("config", ["default", COLUMN])
@pytest.mark.parametrize("split", SPLITS)
def test_datasets_reads_the_folder_by_its_card_and_drops_nothing(folder, load, split, config, streaming):
    found = from_lists(load(config, split=split, streaming=streaming))
    expected = plain(folder, split, "" if config == "default" else config)
    assert without_shapes_of_empty(found) == without_shapes_of_empty(expected)


def test_datasets_streams_each_sample_once_with_two_workers(folder, load):
    streamed = load(split="train", streaming=True)
    loader = torch.utils.data.DataLoader(streamed, batch_size=None, num_workers=2, collate_fn=lambda each: each)
    keys = [sample["__key__"] for sample in loader]
    assert sorted(keys) == sorted(sample["__key__"] for sample in plain(folder, "train"))


def test_datasets_keeps_float16_when_asked_for_arrays(load):
    """Prepared alone: a stream's `with_format` knows no dtype, and gives float32."""
    dataset = load(COLUMN, split="train").with_format("numpy", dtype=np.float16)
    found = [array for array in (sample[f"{COLUMN}.npy"] for sample in dataset) if len(array)]
    assert {(array.dtype, array.ndim, array.shape[-1]) for array in found} == {(np.dtype(np.float16), 5, 7)}


def test_datasets_goes_on_in_the_middle_by_its_own_state(load):
    dataset = load(split="train", streaming=True)
    rows = iter(dataset)
    [next(rows) for _ in range(17)]
    state = dataset.state_dict()
    rest = [sample["__key__"] for sample in rows]
    again = load(split="train", streaming=True)
    again.load_state_dict(state)
    assert [sample["__key__"] for sample in again] == rest
    assert len(rest) == 23
