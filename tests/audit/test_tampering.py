"""Ten ways to tamper with the tars of a finished mixture: each becomes a finding that names tar and key.

Whoever does it also rewrites the ledger: `forge` makes every digest and count of it agree with the tars.
"""

import json
import shutil

import numpy as np
import pytest
import shard_factory as made
from forgery import forge, places, replace_members
from test_audit import FIRST, SECOND, _changed_array, _changed_json, keys_of, of_key, read_tar

from pipeline.audit.audit import audit
from pipeline.audit.findings import Code
from pipeline.shards.members import members as members_of
from pipeline.shards.members import shard_sample
from schemas.sample import Modality, Split

COLUMN = "internvideo2"
TAR = f"shards/train-000000.{COLUMN}.tar"


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    """A mixture whose second encoder is a column."""
    where = tmp_path_factory.mktemp("columns")
    made.build_with_column(where)
    return where / "mixture"


@pytest.fixture
def beside(joined, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(joined, tmp_path / "beside")


def keys_in(folder, shard, kind="-video-"):
    return [key for key in keys_of(read_tar(folder / shard)) if kind in key]


def edit(folder, shard, changes):
    """Applies `changes[member name](bytes)`."""
    replace_members(
        folder, shard, lambda members: [(n, changes[n](data) if n in changes else data) for n, data in members]
    )


def edit_json(folder, shard, key, change):
    edit(folder, shard, {f"{key}.json": lambda data: _changed_json(data, change)})


def codes(folder):
    return set(audit(folder).finding_counts)


def test_a_forged_ledger_of_sound_tars_is_sound(folder, beside):
    for each in (folder, beside):
        forge(each)
        assert audit(each).ok


def test_01_a_missing_sample(folder, beside):
    def without(key):
        return lambda members: [each for each in members if each not in of_key(members, key)]

    key = keys_in(beside, FIRST)[0]
    replace_members(folder, FIRST, without(key))
    assert FIRST in [shard for shard, _ in places(folder, Code.COUNTS_DIFFER)]
    forge(folder)
    assert codes(folder) == {Code.FLOW_LEAKS, Code.SHARE_INEXACT}
    # Where a column lies beside the tar, its key can be named too.
    replace_members(beside, FIRST, without(key))
    forge(beside)
    assert (TAR, key) not in places(beside, Code.COLUMN_MISALIGNED)  # the first that differs is the next one
    following = keys_of(read_tar(beside / FIRST))[keys_of(read_tar(beside / TAR)).index(key)]
    assert places(beside, Code.COLUMN_MISALIGNED)[0] == (TAR, following)


def test_02_a_doubled_sample(folder):
    key = keys_in(folder, FIRST)[0]
    replace_members(folder, SECOND, lambda members: [*members, *of_key(read_tar(folder / FIRST), key)])
    forge(folder)
    assert places(folder, Code.KEY_TWICE) == [(SECOND, key)]


def test_02_a_doubled_sample_under_another_key(folder):
    one, other = keys_in(folder, FIRST)[0], keys_in(folder, SECOND)[0]
    films = {name: json.loads(data) for name, data in read_tar(folder / FIRST) if name == f"{one}.json"}
    taken = {field: films[f"{one}.json"][field] for field in ("media", "conversations", "clips", "category")}
    edit_json(folder, SECOND, other, lambda content: (content.update(taken), _seal(content)))
    forge(folder)
    assert places(folder, Code.DUPLICATE) == [(SECOND, other)]


def _seal(content):
    from test_audit import resealed

    resealed(content)


def test_03_two_swapped_texts(folder):
    one, two = keys_in(folder, FIRST)[:2]
    talks = {name: json.loads(data)["conversations"] for name, data in read_tar(folder / FIRST) if "json" in name}
    for key, other in ((one, two), (two, one)):
        edit_json(folder, FIRST, key, lambda c, other=other: c.update(conversations=talks[f"{other}.json"]))
    forge(folder)
    assert codes(folder) == {Code.TEXT_UNBOUND}
    assert sorted(places(folder, Code.TEXT_UNBOUND)) == [(FIRST, one), (FIRST, two)]


def test_04_a_changed_turn(folder):
    key = keys_in(folder, SECOND)[1]
    edit_json(folder, SECOND, key, lambda content: content["conversations"][1].update(content="Nothing at all."))
    forge(folder)
    assert codes(folder) == {Code.TEXT_UNBOUND}
    assert places(folder, Code.TEXT_UNBOUND) == [(SECOND, key)]


def test_05_a_truncated_tar(folder):
    keys = keys_of(read_tar(folder / SECOND))
    data = (folder / SECOND).read_bytes()
    last = data.rindex(f"{keys[-1]}.json".encode())  # the last sample's first header
    (folder / SECOND).write_bytes(data[: last + 700])
    assert places(folder, Code.TAR_DAMAGED) == [(SECOND, keys[-2])]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_06_a_feature_that_is_no_number(folder, beside, value):
    def change(array):
        array[-1, -1, -1, -1, -1] = value
        return array

    for where, shard, encoder in ((folder, SECOND, "siglip"), (beside, TAR, COLUMN)):
        key = keys_in(where, shard)[1]
        edit(where, shard, {f"{key}.{encoder}.npy": lambda data: _changed_array(data, change)})
        forge(where)
        assert codes(where) == {Code.FEATURE_NOT_FINITE}
        assert places(where, Code.FEATURE_NOT_FINITE) == [(shard, key)]


def test_07_a_column_whose_samples_are_in_another_order(beside):
    keys = keys_of(read_tar(beside / TAR))
    replace_members(beside, TAR, lambda members: [m for key in reversed(keys) for m in of_key(members, key)])
    forge(beside)
    assert codes(beside) == {Code.COLUMN_MISALIGNED}
    assert places(beside, Code.COLUMN_MISALIGNED) == [(TAR, key) for key in keys]


@pytest.mark.parametrize("told", [False, True])
def test_07_a_column_in_which_two_samples_swapped_members(beside, told):
    """As they are, or with the key in their JSON set right."""
    frames = made.WITH_FRAMES.frames_for
    records = (json.loads(data) for name, data in read_tar(beside / FIRST) if name.endswith("json"))
    one, two, *_ = (
        record["key"] for record in records if "-video-" in record["key"] and record["category"] in frames
    )  # of equal shapes

    def swapped(members):
        held, other = dict(members), {one: two, two: one}
        return [
            (name, _taken(held, name, other) if name.split(".")[0] in other else data) for name, data in members
        ]

    def _taken(held, name, other):
        key, _, suffix = name.partition(".")
        data = held[f"{other[key]}.{suffix}"]
        return _changed_json(data, lambda c: c.update(key=key)) if told and suffix.endswith("json") else data

    replace_members(beside, TAR, swapped)
    forge(beside)
    assert codes(beside) == ({Code.COLUMN_UNBOUND} if told else {Code.COLUMN_UNBOUND, Code.JSON_MISPLACED})
    assert sorted(places(beside, Code.COLUMN_UNBOUND)) == [(TAR, one), (TAR, two)]


def test_07_features_that_changed_names_with_another_encoder(folder):
    key = keys_in(folder, FIRST)[0]
    held = dict(read_tar(folder / FIRST))
    names = (f"{key}.siglip.npy", f"{key}.{COLUMN}.npy")
    edit(folder, FIRST, {a: lambda _, b=b: held[b] for a, b in (names, names[::-1])})
    forge(folder)
    assert codes(folder) == {Code.FEATURE_SHAPE}
    assert places(folder, Code.FEATURE_SHAPE) == [(FIRST, key)] * 2


def test_08_a_wrong_claim_of_frames_a_second(folder):
    """First the ledger's, of all films; then one film's own times."""
    path = folder / "ledger.json"
    before = path.read_text()
    path.write_text(json.dumps(json.loads(before) | {"fps": "4"}))
    films = [(name, key) for name in (FIRST, SECOND) for key in keys_in(folder, name)]
    assert codes(folder) == {Code.TIMES_OFF_GRID}
    assert films == [place for place in dict.fromkeys(places(folder, Code.TIMES_OFF_GRID)) if place in films]
    path.write_text(before)
    key = keys_in(folder, SECOND)[0]

    def faster(content):
        clip = content["clips"][0]
        clip["t_ns"] = [clip["start_ns"] + n * 250_000_000 for n in range(4)]
        clip["pts_ns"] = clip["t_ns"]

    edit_json(folder, SECOND, key, faster)
    forge(folder)
    assert codes(folder) == {Code.TIMES_OFF_GRID}
    assert places(folder, Code.TIMES_OFF_GRID) == [(SECOND, key)]


def test_09_a_share_off_by_one_sample_though_the_whole_ledger_agrees(folder):
    """One text gave way to a picture, and the quotas were rewritten too: the recipe's shares are the last word."""
    key = keys_in(folder, FIRST, "-text-")[0]
    packed = made.make_packed(900, Modality.IMAGE, Split.TRAIN)
    record = shard_sample(packed, made.ENCODERS)
    extra = [
        (f"{record.key}.{member.suffix}", member.payload)
        for member in members_of(record, packed.features, made.ENCODERS, made.WITH_FRAMES)
    ]

    def replaced(members):
        at = members.index(of_key(members, key)[0])
        rest = [each for each in members if each not in of_key(members, key)]
        return [*rest[:at], *extra, *rest[at:]]

    replace_members(folder, FIRST, replaced)
    forge(folder)
    report = audit(folder)
    assert report.finding_counts.keys() == {Code.SHARE_INEXACT, Code.PREFIX_OFF_SHARE}  # its place was a text's
    assert "text 4 (exactly 4.800), image 11 (exactly 10.400)" in report.findings[0].message


def test_10_a_licence_that_the_recipe_bars(folder):
    path = folder / "ledger.json"
    gates = {"licences": {"deny": ["CC-BY-NC*"]}}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"gates": gates}))
    key = keys_in(folder, SECOND)[0]
    edit_json(folder, SECOND, key, lambda content: content.update(licence="CC-BY-NC-4.0"))
    forge(folder)
    assert codes(folder) == {Code.LICENCE_BARRED}
    assert places(folder, Code.LICENCE_BARRED) == [(SECOND, key)]
