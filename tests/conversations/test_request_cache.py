"""Laws of the request cache: what was committed is found, by everybody, for ever, and is what was put."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.loaders import create_loader
from counted_steps import KilledError, count_steps
from fake_engine import make_prompt, reply_to
from hypothesis import given, settings
from hypothesis import strategies as st
from store_server import BUCKET, running_store
from store_server import settings as store_settings

from pipeline.conversations import addresses, cache
from pipeline.conversations.addresses import AddressIndex
from pipeline.conversations.cache import FAN, RequestCache, Usage
from pipeline.conversations.segments import GROUP_ROWS, CacheError, segments_in
from pipeline.storage import files
from pipeline.storage.client import forget
from pipeline.storage.places import S3Path

LOADER = create_loader()
PROMPTS = [make_prompt(number) for number in range(40)]
ADDRESSES = [prompt.address for prompt in PROMPTS]


@pytest.fixture(scope="module")
def server():
    with running_store() as store:
        yield store


@pytest.fixture(params=["disk", "store"])
def folder(request, server, tmp_path, monkeypatch):
    """An empty place of each kind."""
    if request.param == "disk":
        yield tmp_path / "cache"
        return
    monkeypatch.setattr("botocore.session.create_loader", lambda *_: LOADER)
    for name, value in store_settings(server, tmp_path).items():
        monkeypatch.setenv(name, value)
    server.empty()
    forget()
    yield S3Path(BUCKET, tmp_path.name)
    forget()


on_both = pytest.mark.parametrize("folder", ["disk", pytest.param("store", marks=pytest.mark.slow)], indirect=True)


def put(kept, prompts, text=None):
    for prompt in prompts:
        kept.put(prompt, reply_to(prompt).model_copy(update={"text": text} if text else {}))
    return kept.flush()


def texts(kept, wanted=ADDRESSES):
    return [found and found.text for found in kept.get_many(wanted)]


texts_of_any_kind = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)


@given(st.lists(st.tuples(st.integers(0, 20), texts_of_any_kind), max_size=30), st.integers(1, 7))
@settings(max_examples=25)
def test_what_was_put_is_found_as_it_was_by_whoever_opens_the_cache(replies, each):
    prompts = {number: make_prompt(number) for number, _ in replies}
    first = dict(reversed(replies))
    with tempfile.TemporaryDirectory() as folder:
        kept = RequestCache(Path(folder))
        for count, (number, text) in enumerate(replies, 1):
            kept.put(prompts[number], reply_to(prompts[number]).model_copy(update={"text": text}))
            if count % each == 0:
                assert kept.flush() == each
        kept.flush()
        wanted = [prompt.address for prompt in prompts.values()] + ["f" * 64]
        expected = [reply_to(prompts[n]).model_copy(update={"text": first[n]}) for n in prompts] + [None]
        assert kept.get_many(wanted) == expected
        assert RequestCache(Path(folder)).get_many(wanted[::-1] * 2) == expected[::-1] * 2


def test_a_reply_is_found_from_its_commit_on_and_by_caches_that_were_open_before(folder):
    before, kept = RequestCache(folder), RequestCache(folder)
    kept.put(PROMPTS[0], reply_to(PROMPTS[0]))
    assert texts(kept) == texts(before) == [None] * 40
    assert kept.flush() == 1
    assert kept.flush() == 0
    assert before.get_many(ADDRESSES[:2]) == kept.get_many(ADDRESSES[:2]) == [reply_to(PROMPTS[0]), None]


def test_a_reply_that_comes_while_others_are_committed_is_in_the_next_commit(tmp_path, monkeypatch):
    kept = RequestCache(tmp_path)
    real = cache.write_segment

    def slow(*arguments):
        if not segments_in(tmp_path):
            kept.put(PROMPTS[1], reply_to(PROMPTS[1]))
        real(*arguments)

    monkeypatch.setattr(cache, "write_segment", slow)
    assert put(kept, PROMPTS[:1]) == 1
    assert kept.flush() == 1
    assert kept.get_many(ADDRESSES[:2]) == [reply_to(PROMPTS[0]), reply_to(PROMPTS[1])]


def test_who_is_held_is_told_without_reading_a_reply(folder, monkeypatch):
    kept, reader = RequestCache(folder), RequestCache(folder)
    put(kept, PROMPTS[10:20])
    monkeypatch.setattr(reader, "_group", None)
    assert reader.holds(ADDRESSES).tolist() == [10 <= number < 20 for number in range(40)]


def test_of_two_replies_everybody_gets_the_one_that_was_put_first(folder):
    one, other = RequestCache(folder), RequestCache(folder)
    one.put(PROMPTS[0], reply_to(PROMPTS[0]).model_copy(update={"text": "first"}))
    put(other, PROMPTS[:3], "second")  # committed first
    one.flush()
    expected = ["first", "second", "second"]
    assert texts(one, ADDRESSES[:3]) == texts(RequestCache(folder), ADDRESSES[:3]) == expected
    one.compact()
    assert texts(one, ADDRESSES[:3]) == texts(RequestCache(folder), ADDRESSES[:3]) == expected
    assert other.get_many(ADDRESSES[:3]) == one.get_many(ADDRESSES[:3])


@on_both
def test_three_processes_write_side_by_side_while_others_read(folder):
    script = Path(__file__).with_name("cache_writer.py")
    environment = {**os.environ, "PYTHONPATH": "."}
    ranges = [(0, 150), (100, 250), (240, 400)]
    writers = [
        subprocess.Popen([sys.executable, script, str(folder), str(first), str(stop)], env=environment)
        for first, stop in ranges
    ]
    wanted = [make_prompt(number).address for number in range(400)]
    seen, reader = {}, RequestCache(folder)
    while any(writer.poll() is None for writer in writers):
        found = {a: reply for a, reply in zip(wanted, reader.get_many(wanted), strict=True) if reply}
        assert seen.keys() <= found.keys()
        assert all(reply.text.startswith(f"{wanted.index(address)} by ") for address, reply in found.items())
        seen = found
        time.sleep(0.02)
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    final = reader.get_many(wanted)
    assert all(final)
    assert RequestCache(folder).get_many(wanted) == final
    reader.compact()
    assert RequestCache(folder).get_many(wanted) == final
    assert len(segments_in(folder)) == 1
    assert reader.usage().requests == sum(stop - first for first, stop in ranges)


def test_compaction_leaves_one_segment_and_readers_that_knew_the_old_ones_go_on(folder):
    kept, reader = RequestCache(folder), RequestCache(folder)
    for prompt in PROMPTS[:5]:
        put(kept, [prompt])
    reader.refresh()
    assert len(segments_in(folder)) == 5
    before = kept.usage()
    kept.compact()
    assert len(segments_in(folder)) == 1
    assert texts(reader, ADDRESSES[:5]) == [reply_to(prompt).text for prompt in PROMPTS[:5]]
    assert len(reader) == len(kept) == 5
    assert kept.usage() == reader.usage() == RequestCache(folder).usage() == before


STEPS = ((files, "commit"), (Path, "unlink"), (S3Path, "unlink"))
"""Commits and removals."""


@on_both
def test_a_compaction_that_is_killed_anywhere_changes_no_answer_and_the_next_one_ends_it(folder, monkeypatch):
    monkeypatch.setattr(cache, "LARGE_ROWS", 9)

    def fill():
        kept = RequestCache(folder)
        for name in segments_in(folder):
            (folder / name).unlink()
        for number in range(0, 12, 2):
            put(kept, PROMPTS[number : number + 3], f"text {number}")
        return RequestCache(folder)

    kept = fill()
    steps = count_steps(monkeypatch, STEPS, kept.compact)
    assert steps >= 2 * (1 + 3)
    for last in range(steps):
        kept = fill()
        expected, used = texts(kept), kept.usage()
        with pytest.raises(KilledError):
            count_steps(monkeypatch, STEPS, kept.compact, last)
        for reader in (RequestCache(folder), kept):
            assert texts(reader) == expected
            assert reader.usage() == used
        reopened = RequestCache(folder)
        put(reopened, PROMPTS[30:31], "late")
        reopened.compact()
        assert texts(RequestCache(folder)) == [*expected[:30], "late", *expected[31:]]
        assert len(segments_in(folder)) <= 4
        assert reopened.usage().requests == used.requests + 1


def test_a_list_that_shows_what_is_gone_ends_in_no_loop(tmp_path, monkeypatch):
    kept = RequestCache(tmp_path)
    put(kept, PROMPTS[:1])
    put(kept, PROMPTS[1:2])
    stale = segments_in(tmp_path)
    (tmp_path / stale[0]).unlink()
    monkeypatch.setattr(cache, "segments_in", lambda _: stale)
    assert kept.get_many(ADDRESSES[:2]) == [None, reply_to(PROMPTS[1])]
    assert kept.usage().requests == 1


def test_a_worker_joins_its_own_segments_as_it_goes(folder):
    kept, reader = RequestCache(folder), RequestCache(folder)
    prompts = [make_prompt(number) for number in range(FAN + 3)]
    for prompt in prompts:
        put(kept, [prompt])
        reader.refresh()
    wanted = [prompt.address for prompt in prompts]
    assert len(segments_in(folder)) == 1 + 3
    assert kept.get_many(wanted) == reader.get_many(wanted) == [reply_to(prompt) for prompt in prompts]
    assert len(kept) == len(reader) == FAN + 3


def test_remains_of_killed_writers_are_no_segments_and_go_with_the_next_compaction(tmp_path):
    kept = RequestCache(tmp_path)
    put(kept, PROMPTS)
    (tmp_path / f"{files.ATTEMPT_PREFIX}1-{segments_in(tmp_path)[0]}").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    assert None not in texts(RequestCache(tmp_path))
    kept.compact()
    assert sorted(path.name for path in tmp_path.iterdir()) == [*segments_in(tmp_path), "notes.txt"]


@pytest.mark.parametrize("damage", ["torn", "empty", "foreign", "other columns"])
def test_a_segment_that_is_none_is_refused_by_its_name_with_the_mend(tmp_path, damage):
    kept = RequestCache(tmp_path)
    put(kept, PROMPTS)
    (name,) = segments_in(tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()
    if damage == "other columns":
        pq.write_table(pa.table({"address": ["a"]}), path)
    else:
        path.write_bytes({"torn": whole[: len(whole) // 2], "empty": b"", "foreign": b"PK\3\4" * 99}[damage])
    with pytest.raises(CacheError, match=rf"{name}: no whole segment.*remove it"):
        RequestCache(tmp_path)
    path.unlink()
    assert texts(RequestCache(tmp_path)) == [None] * 40


def test_a_damaged_text_is_found_out_and_never_handed_on(tmp_path):
    kept = RequestCache(tmp_path)
    put(kept, PROMPTS[:1], "x" * 10 + "".join(map(chr, range(40, 120))))
    (name,) = segments_in(tmp_path)
    whole = (tmp_path / name).read_bytes()
    refused = []
    for at in (*range(0, len(whole), 29), 5, 802):  # the last two hide a whole page
        (tmp_path / name).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            (found,) = RequestCache(tmp_path).get_many(ADDRESSES[:1])
            assert found == kept.get_many(ADDRESSES[:1])[0]
        except CacheError as error:
            refused.append(str(error))
    assert len(refused) > 20
    assert all(name in told for told in refused)


def test_rows_are_told_apart_by_the_whole_address(tmp_path, monkeypatch):
    monkeypatch.setattr(addresses, "prefixes_of", lambda a: (a[:, 0] % 3).astype(np.uint64))
    kept = RequestCache(tmp_path)
    put(kept, PROMPTS[:20])
    put(kept, PROMPTS[10:30])
    assert kept.get_many(ADDRESSES) == [*map(reply_to, PROMPTS[:30]), *[None] * 10]


def test_an_address_takes_sixteen_bytes_of_memory():
    index = AddressIndex()
    rng = np.random.default_rng(0)
    wanted = rng.integers(0, 256, (100_000, 32), np.uint8)
    for segment in range(10):
        index.add(wanted[segment * 10_000 : (segment + 1) * 10_000], segment)
    which, places = index.find(wanted)
    assert which.tolist() == list(range(100_000))
    assert places.tolist() == [segment << 32 | row for segment in range(10) for row in range(10_000)]
    assert sum(array.nbytes for level in index._levels for array in level) == 16 * 100_000


def test_one_reply_is_read_without_the_rest_of_its_segment(tmp_path, monkeypatch):
    kept = RequestCache(tmp_path)
    prompts = [make_prompt(number) for number in range(GROUP_ROWS * 3 + 5)]
    put(kept, prompts)
    (name,) = segments_in(tmp_path)
    meta = pq.read_metadata(tmp_path / name)
    assert [meta.row_group(n).num_rows for n in range(4)] == [GROUP_ROWS] * 3 + [5]
    read = []
    real = kept._group
    monkeypatch.setattr(kept, "_group", lambda *place: read.append(place) or real(*place))
    for number in (0, GROUP_ROWS - 1, GROUP_ROWS, GROUP_ROWS * 3 + 4):
        assert kept.get_many([prompts[number].address]) == [reply_to(prompts[number])]
    assert read == [(0, 0), (0, 0), (0, 1), (0, 3)]


def test_usage_is_of_all_or_of_one_model(folder):
    kept = RequestCache(folder)
    put(kept, PROMPTS[:3])
    other = make_prompt(0).model_copy(update={"model_sha256": "1" * 64})
    put(kept, [other])
    one = {"prompt_tokens": 10, "cached_tokens": 4, "output_tokens": 25}
    assert kept.usage() == Usage(requests=4, **{name: 4 * count for name, count in one.items()})
    assert kept.usage("1" * 64) == Usage(requests=1, **one)
    assert kept.usage("2" * 64) == Usage()
