"""Faults planted in a column's tars, each of which must become its finding."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import shard_factory as made
from test_audit import _changed_array, _changed_json, keys_of, of_key, read_tar, write_tar

from pipeline.audit.audit import audit
from pipeline.audit.findings import Code
from schemas.base import digest, sha256_text

COLUMN = "internvideo2"
TAR = f"shards/train-000000.{COLUMN}.tar"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    where = tmp_path_factory.mktemp("columns")
    made.build_with_column(where)
    return where / "mixture"


def launder(folder):
    """Rewrites digests, sizes and root in the ledger, as a dishonest hand would."""
    path = folder / "ledger.json"
    ledger = json.loads(path.read_text())
    columns = [tar for column in ledger["columns"] for tar in column["shards"]]
    for entry in columns:
        data = (folder / entry["name"]).read_bytes()
        entry["sha256"], entry["size_bytes"] = hashlib.sha256(data).hexdigest(), len(data)
    ledger["root_sha256"] = digest([entry["sha256"] for entry in (*ledger["shards"], *columns)])
    path.write_text(json.dumps(ledger))


def edit(folder, change):
    """Findings by code once the column's first tar holds `change(members)`."""
    write_tar(folder / TAR, change(read_tar(folder / TAR)))
    launder(folder)
    return audit(folder).finding_counts


def edit_member(folder, suffix, change):
    """Applies `change(bytes)` to that member of the first film."""

    def changed(members):
        key = next(k for k in keys_of(members) if "-video-" in k)
        return [(n, change(data) if n == f"{key}.{suffix}" else data) for n, data in members]

    return edit(folder, changed)


def test_a_whole_column_passes(folder):
    report = audit(folder)
    assert report.ok, report.findings


def test_two_samples_that_changed_places_are_found(folder):
    def change(members):
        one, two, *_ = keys_of(members)
        return [*of_key(members, two), *of_key(members, one), *members[len(of_key(members, one) * 2) :]]

    assert edit(folder, change) == {Code.COLUMN_MISALIGNED: 2}


def test_a_missing_sample_is_found(folder):
    found = edit(folder, lambda members: members[len(of_key(members, keys_of(members)[0])) :])
    assert found[Code.COLUMN_MISALIGNED] == 12
    assert Code.COUNTS_DIFFER in found


def test_a_sample_too_many_is_found(folder):
    found = edit(folder, lambda m: [*m, *((f"more.{n.partition('.')[2]}", d) for n, d in of_key(m, keys_of(m)[0]))])
    assert found[Code.COLUMN_MISALIGNED] == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda c: c.update(binding_sha256=sha256_text("another film")), Code.COLUMN_UNBOUND),
        (lambda c: c.update(clips_sha256=sha256_text("other frames")), Code.COLUMN_UNBOUND),
        (lambda c: c.update(key="another"), Code.JSON_MISPLACED),
        (lambda c: c["encoder"].update(weights_sha256=sha256_text("tuned")), Code.ENCODERS_DIFFER),
        (lambda c: c.pop("encoder"), Code.JSON_INVALID),
    ],
)
def test_a_json_of_other_features_is_found(folder, change, code):
    found = edit_member(folder, f"{COLUMN}.json", lambda data: _changed_json(data, change))
    assert found.pop(code) == 1
    assert found.keys() <= {Code.COUNTS_DIFFER}  # bytes, where the JSON became shorter or longer


def nan(array):
    array[0, 0, 0, 0, 0] = np.nan
    return array


@pytest.mark.parametrize(
    ("suffix", "change", "code"),
    [
        (f"{COLUMN}.npy", nan, Code.FEATURE_NOT_FINITE),
        (f"{COLUMN}.npy", lambda array: array[:, :, ::-1, :1], Code.FEATURE_SHAPE),
        (f"{COLUMN}.npy", lambda array: array[:1], Code.FEATURE_SHAPE),
        (f"{COLUMN}.frames.npy", lambda array: array[:1], Code.FRAMES_SHAPE),
    ],
)
def test_an_array_that_does_not_fit_is_found(folder, suffix, change, code):
    found = edit_member(folder, suffix, lambda data: _changed_array(data, change))
    assert found.pop(code) == 1
    assert found.keys() <= {Code.COUNTS_DIFFER}


def test_members_in_another_order_are_found(folder):
    def change(members):
        return [members[0], members[2], members[1], *members[3:]]

    assert edit(folder, change) == {Code.MEMBERS_DIFFER: 1}


def test_a_changed_byte_is_found_without_a_look_at_the_content(folder):
    data = bytearray((folder / TAR).read_bytes())
    data[-1] ^= 1
    (folder / TAR).write_bytes(data)
    assert audit(folder).finding_counts.keys() >= {Code.SHARD_CHANGED, Code.ROOT_CHANGED}


def test_a_tar_that_is_away_and_one_too_many_are_found(folder):
    (folder / TAR).rename(folder / "shards" / f"train-000009.{COLUMN}.tar")
    found = audit(folder).finding_counts
    assert found[Code.SHARD_MISSING] == found[Code.SHARD_UNKNOWN] == 1


def test_frames_as_pictures_are_counted_and_measured(tmp_path):
    made.build_with_column(tmp_path, spec=made.WITH_PICTURES)
    folder = tmp_path / "mixture"
    assert audit(folder).ok
    suffix = f"{COLUMN}.frames.mjpeg"

    def without_last(data):
        return data[: data.rindex(b"\xff\xd8\xff")]

    def cut(data):
        return data[:-2]

    for change, code in ((without_last, Code.FRAMES_SHAPE), (cut, Code.ARRAY_INVALID)):
        copy = shutil.copytree(folder, tmp_path / change.__name__)
        found = edit_member(copy, suffix, change)
        assert found == {code: 1, Code.COUNTS_DIFFER: 2}  # bytes, by member and by encoder
