"""Each test plants one fault in real tars and names the finding it must become.

`launder` then rewrites digests, sizes and root in the ledger, as a careless or dishonest hand
would: what the audit still finds, it finds in the content.
"""

import hashlib
import io
import json
import random
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import shard_factory as made
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tars import tar_of

from pipeline.audit.audit import AuditReport, audit
from pipeline.audit.findings import KEPT_A_CODE, Code
from schemas.base import digest
from schemas.ledger import ShardSample

FIRST, SECOND, HELDOUT = "shards/train-000000.tar", "shards/train-000001.tar", "shards/heldout-000000.tar"


def read_tar(path):
    with tarfile.open(path) as tar:
        return [(member.name, tar.extractfile(member).read()) for member in tar]


def write_tar(path, members, **facts):
    path.write_bytes(tar_of(members, **facts))


def launder(folder):
    path = folder / "ledger.json"
    ledger = json.loads(path.read_text())
    for entry in ledger["shards"]:
        data = (folder / entry["name"]).read_bytes()
        entry["sha256"], entry["size_bytes"] = hashlib.sha256(data).hexdigest(), len(data)
    ledger["root_sha256"] = digest([entry["sha256"] for entry in ledger["shards"]])
    path.write_text(json.dumps(ledger))


def keys_of(members):
    return list(dict.fromkeys(name.partition(".")[0] for name, _ in members))


def of_key(members, key):
    return [(name, payload) for name, payload in members if name.partition(".")[0] == key]


def edit(folder, shard, change):
    """Rewrites a tar with `change(members)` and launders; returns the findings by code."""
    members = read_tar(folder / shard)
    write_tar(folder / shard, change(members))
    launder(folder)
    return audit(folder).finding_counts


def edit_json(folder, shard, matches, change):
    """Applies `change(json)` to the first sample of `shard` that matches."""

    def changed(members):
        names = [n for n, data in members if n.endswith(".json") and matches(json.loads(data))]
        return [(n, _changed_json(data, change) if n == names[0] else data) for n, data in members]

    return edit(folder, shard, changed)


def _changed_json(data, change):
    content = json.loads(data)
    change(content)
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def edit_array(folder, suffix, change):
    """Applies `change(array)` to that member of the first film of the first tar."""

    def changed(members):
        key = next(k for k in keys_of(members) if "-video-" in k)
        return [(n, _changed_array(data, change) if n == f"{key}.{suffix}" else data) for n, data in members]

    return edit(folder, FIRST, changed)


def _changed_array(data, change):
    buffer = io.BytesIO()
    np.save(buffer, change(np.load(io.BytesIO(data)).copy()))
    return buffer.getvalue()


def edit_ledger(folder, change):
    path = folder / "ledger.json"
    path.write_bytes(_changed_json(path.read_bytes(), change))
    return audit(folder).finding_counts


def is_modality(name):
    return lambda content: content["modality"] == name


def resealed(content):
    turns = [{"role": turn["role"], "content": turn["content"]} for turn in content["conversations"]]
    content["text_sha256"] = digest([content["key"], content["binding_sha256"], turns])


def test_a_mixture_as_written_passes(whole):
    report = audit(whole)
    assert report.findings == ()
    assert report.ok
    assert report.verdict == "passed, 45 samples in 5 shards"
    assert report.tables["total"] == report.ledger.total
    assert max(report.prefix_deviations.values()) < 1
    assert AuditReport.model_validate(json.loads(report.to_json()) | {"ok": None}, extra="ignore") == report


def test_a_mixture_without_frames_passes(tmp_path):
    made.build(tmp_path, made.WITHOUT_FRAMES)
    assert audit(tmp_path).findings == ()


def test_the_audit_needs_nothing_but_tars_and_ledger(folder):
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".tar" and path.name != "ledger.json":
            path.unlink()
    assert audit(folder).ok


def test_the_audit_shares_no_code_with_the_writer_and_starts_light():
    code = (
        "import sys, pipeline.audit.audit; bad = ('pipeline.shards', 'torch', 'webdataset', 'pyarrow', 'ray');"
        "sys.exit(any(name.startswith(bad) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_missing_sample_is_found(folder):
    found = edit(
        folder, FIRST, lambda members: [m for m in members if m not in of_key(members, keys_of(members)[3])]
    )
    assert {Code.COUNTS_DIFFER, Code.QUOTA_MISSED, Code.SHARE_INEXACT} <= found.keys()


def test_a_doubled_sample_is_found(folder):
    found = edit(folder, FIRST, lambda members: [*members, *of_key(members, keys_of(members)[0])])
    assert found[Code.KEY_TWICE] == 1
    assert {Code.COUNTS_DIFFER, Code.QUOTA_MISSED} <= found.keys()


def test_a_sample_doubled_into_another_tar_is_found(folder):
    extra = read_tar(folder / FIRST)[:5]
    assert edit(folder, SECOND, lambda members: [*members, *extra])[Code.KEY_TWICE] == 1


def test_two_swapped_texts_are_found_and_nothing_else_gives_them_away(folder):
    members = read_tar(folder / FIRST)
    # Two films with equally many turns, so that no count changes.
    films = [json.loads(data) for name, data in members if name.endswith(".json") and "-video-" in name]
    one, other = next((a, b) for a in films for b in films if a != b and _turns(a) == _turns(b))
    swapped = {one["key"]: other["conversations"], other["key"]: one["conversations"]}

    def change(found):
        return [
            (
                n,
                _changed_json(d, lambda c: c.update(conversations=swapped[c["key"]]))
                if _is_json(n, swapped)
                else d,
            )
            for n, d in found
        ]

    assert edit(folder, FIRST, change) == {Code.TEXT_UNBOUND: 2}


def test_texts_swapped_with_their_digests_and_bindings_are_found(folder):
    members = read_tar(folder / FIRST)
    films = [json.loads(data) for name, data in members if name.endswith(".json") and "-video-" in name]
    one, other = next((a, b) for a in films for b in films if a != b and _turns(a) == _turns(b))
    fields = ("conversations", "text_sha256", "binding_sha256")
    swapped = {one["key"]: {f: other[f] for f in fields}, other["key"]: {f: one[f] for f in fields}}

    def change(found):
        return [
            (n, _changed_json(d, lambda c: c.update(swapped[c["key"]])) if _is_json(n, swapped) else d)
            for n, d in found
        ]

    assert edit(folder, FIRST, change) == {Code.TEXT_UNBOUND: 2}


def _turns(content):
    return len(content["conversations"])


def _is_json(name, keys):
    return name.endswith(".json") and name.partition(".")[0] in keys


def test_a_changed_turn_is_found(folder):
    def change(content):
        content["conversations"][1]["content"] = content["conversations"][1]["content"].replace("ö", "ü")

    assert edit_json(folder, FIRST, is_modality("image"), change) == {Code.TEXT_UNBOUND: 1}


def test_a_turn_taken_away_breaks_the_roles(folder):
    def change(content):
        content["conversations"].pop(0)
        resealed(content)

    found = edit_json(folder, FIRST, lambda content: _turns(content) > 2, change)
    assert found[Code.ROLES_BROKEN] == 1
    assert Code.TEXT_UNBOUND not in found


@pytest.mark.parametrize("share", [0.5, 0.999])
def test_a_truncated_tar_is_named_with_its_last_whole_sample(folder, share):
    path = folder / FIRST
    with tarfile.open(path) as tar:
        ends = [(-(-(member.offset_data + member.size) // 512) * 512, member.name) for member in tar]
    cut = int(ends[-1][0] * share)
    path.write_bytes(path.read_bytes()[:cut])
    launder(folder)
    (finding,) = [f for f in audit(folder).findings if f.code is Code.TAR_DAMAGED]
    last = [name for end, name in ends if end <= cut][-1]
    assert (finding.shard, finding.key) == (FIRST, last.partition(".")[0])
    assert repr(last) in finding.message


@pytest.mark.parametrize("left", [0, 512, 1024])
def test_a_tar_without_its_closing_blocks_is_found_though_tarfile_reads_it(folder, left):
    path = folder / FIRST
    members, data = read_tar(path), path.read_bytes()
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    end = last.offset_data + -(-last.size // 512) * 512
    assert len(data) > end + 1024
    path.write_bytes(data[: end + left])
    assert read_tar(path) == members
    launder(folder)
    assert audit(folder).finding_counts == {Code.TAR_DAMAGED: 1}


@pytest.mark.parametrize("size", [0, 512, 8192, 8704, 9216])
def test_a_tar_that_ends_anywhere_in_a_record_is_whole(tmp_path, size):
    """512 of header + the data + 1024 of zeros: just under, at and over a record of 10,240 bytes."""
    (tmp_path / "shards").mkdir()
    write_tar(tmp_path / FIRST, [("k.json", bytes(size))])
    assert Code.TAR_DAMAGED not in audit(tmp_path).finding_counts


@pytest.mark.parametrize("tail", [b"x" * 512, bytes(10_240), b"\0" * 10_239 + b"x"])
def test_bytes_behind_the_end_of_a_tar_are_found(folder, tail):
    with (folder / FIRST).open("ab") as file:
        file.write(tail)
    launder(folder)
    assert audit(folder).finding_counts == {Code.TAR_DAMAGED: 1}


def test_anything_but_zeros_in_the_closing_record_is_found(folder):
    path = folder / FIRST
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    launder(folder)
    assert audit(folder).finding_counts == {Code.TAR_DAMAGED: 1}


def test_a_tar_of_another_format_is_found(folder):
    path, members = folder / FIRST, read_tar(folder / FIRST)
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, payload in members:
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            tar.addfile(info, io.BytesIO(payload))
    launder(folder)
    assert audit(folder).finding_counts == {Code.TAR_HEADER: len(members)}


def test_a_header_that_lies_about_a_size_takes_no_memory(folder):
    path = folder / FIRST
    data = bytearray(path.read_bytes())
    header = tarfile.TarInfo.frombuf(bytes(data[:512]), "utf-8", "strict")
    header.size = 8 * 2**30 - 1
    data[:512] = header.tobuf(tarfile.USTAR_FORMAT)
    path.write_bytes(data)
    launder(folder)
    report = audit(folder)
    assert "cut short" in next(f.message for f in report.findings if f.code is Code.TAR_DAMAGED)


@pytest.mark.parametrize(
    "facts", [{"mtime": 1}, {"uid": 1000}, {"gid": 5}, {"uname": "me"}, {"gname": "us"}, {"mode": 0o600}]
)
def test_a_header_that_tells_who_or_when_is_found(folder, facts):
    members = read_tar(folder / FIRST)
    write_tar(folder / FIRST, members, **facts)
    launder(folder)
    assert audit(folder).finding_counts == {Code.TAR_HEADER: len(members)}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_a_member_that_is_no_regular_file_is_found(folder, kind):
    info = tarfile.TarInfo("link.json")
    info.type, info.linkname = kind, "/etc/passwd"
    with tarfile.open(folder / FIRST, "a") as tar:
        tar.addfile(info)
    launder(folder)
    assert audit(folder).finding_counts == {Code.TAR_DAMAGED: 1}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_found(folder, value):
    def change(array):
        array[1, 2, 1, 0, 3] = value
        return array

    assert edit_array(folder, "siglip.npy", change) == {Code.FEATURE_NOT_FINITE: 1}


@pytest.mark.parametrize(
    "change",
    [
        lambda array: array.transpose(0, 1, 3, 2, 4),
        lambda array: array[..., ::-1][..., :-1],
        lambda array: array[:, :1],
        lambda array: array[:1],
        lambda array: array[0],
        lambda array: array[:, [0, 1, 2, 3, 3]],
    ],
)
def test_a_feature_of_another_shape_than_its_grid_is_found(folder, change):
    found = edit_array(folder, "siglip.npy", lambda array: np.ascontiguousarray(change(array)))
    assert found[Code.FEATURE_SHAPE] == 1


@pytest.mark.parametrize("dtype", ["f4", "u2", ">f2"])
def test_a_feature_that_is_not_float16_is_found(folder, dtype):
    found = edit_array(folder, "siglip.npy", lambda array: array.astype(dtype))
    assert found.keys() & {Code.FEATURE_SHAPE, Code.ARRAY_INVALID}


def test_feature_columns_in_another_order_are_found(folder):
    def change(members):
        key = keys_of(members)[0]
        ours, rest = of_key(members, key), members[len(of_key(members, key)) :]
        return [ours[0], ours[2], ours[1], *ours[3:], *rest]

    assert edit(folder, FIRST, change) == {Code.MEMBERS_DIFFER: 1}


def test_feature_columns_that_changed_names_are_found(folder):
    def change(members):
        key = next(k for k in keys_of(members) if "-video-" in k)
        one, two = f"{key}.siglip.npy", f"{key}.internvideo2.npy"
        payloads = dict(members)
        return [(n, payloads[{one: two, two: one}.get(n, n)]) for n, _ in members]

    assert edit(folder, FIRST, change) == {
        Code.FEATURE_SHAPE: 2,
        Code.COUNTS_DIFFER: 3,
    }  # bytes by member and encoder


def test_a_missing_member_is_found(folder):
    found = edit(folder, FIRST, lambda members: members[:1] + members[2:])
    assert found[Code.MEMBERS_DIFFER] == 1


def test_a_pickled_array_is_refused_unread(folder):
    assert edit_array(folder, "siglip.npy", lambda array: np.zeros(array.shape, "O"))[Code.ARRAY_INVALID] == 1


def test_frames_of_the_wrong_kind_are_found(folder):
    for change in (
        lambda a: a[:1],
        lambda a: a[:, :2],
        lambda a: a[..., :1],
        lambda a: a[:, :, :3],
        lambda a: a.astype("i1"),
    ):
        members = read_tar(folder / FIRST)
        assert edit_array(folder, "siglip.frames.npy", lambda a, c=change: np.ascontiguousarray(c(a))).get(
            Code.FRAMES_SHAPE
        )
        write_tar(folder / FIRST, members)


def test_frames_nobody_asked_for_are_found(folder):
    def change(members):
        key = next(k for k in keys_of(members) if "-image-" in k)
        frames = np.zeros((1, 1, 6, 6, 3), np.uint8)
        return [
            (n, _changed_array(d, lambda _: frames) if n == f"{key}.siglip.frames.npy" else d) for n, d in members
        ]

    found = edit(folder, FIRST, change)
    assert found[Code.FRAMES_SHAPE] == 1


def test_a_modality_relabelled_puts_the_share_off_by_one(folder):
    found = edit_json(folder, FIRST, is_modality("image"), lambda content: content.update(modality="text"))
    assert {Code.SHARE_INEXACT, Code.QUOTA_MISSED, Code.COUNTS_DIFFER, Code.MODALITY_BELIED} <= found.keys()


def test_a_text_sample_too_many_is_found_though_ledger_and_quota_agree(tmp_path):
    """The recipe's shares are the last word: here both the plan and the writer put one sample wrong."""
    train = made.TRAIN | {made.Modality.TEXT: 6, made.Modality.IMAGE: 9}
    splits = {made.Split.TRAIN: made.samples(train, made.Split.TRAIN)}
    made.write_mixture(tmp_path, splits, made.NAMES, made.WITH_FRAMES, made.account(train, {}))
    assert audit(tmp_path).finding_counts == {Code.SHARE_INEXACT: 1}


def test_a_medium_of_train_that_is_held_out_is_found(folder):
    media = [json.loads(data)["media"] for name, data in read_tar(folder / FIRST) if name.endswith(".json")]
    leaked = next(some for some in media if some)[0]["sha256"]
    found = edit_json(folder, HELDOUT, is_modality("video"), lambda c: c["media"][0].update(sha256=leaked))
    assert found == {Code.HELDOUT_LEAKED: 1}


def test_a_medium_without_a_digest_cannot_be_cleared(folder):
    found = edit_json(folder, FIRST, is_modality("video"), lambda content: content["media"][0].update(sha256=""))
    assert found[Code.MEDIUM_UNNAMED] == 1


def test_a_shard_replaced_by_another_valid_tar_is_found(folder):
    shutil.copy(folder / SECOND, folder / FIRST)
    found = audit(folder).finding_counts
    assert found[Code.SHARD_CHANGED] == 1
    assert found[Code.ROOT_CHANGED] == 1
    assert found[Code.KEY_TWICE] == 12


def test_one_flipped_bit_of_a_feature_changes_the_digests(folder):
    data = bytearray((folder / FIRST).read_bytes())
    with tarfile.open(folder / FIRST) as tar:
        member = tar.getmember(
            next(name for name in tar.getnames() if "-video-" in name and name.endswith("siglip.npy"))
        )
    data[member.offset_data + member.size - 2] ^= 1
    (folder / FIRST).write_bytes(data)
    assert audit(folder).finding_counts == {Code.SHARD_CHANGED: 1, Code.ROOT_CHANGED: 1}


def test_a_shard_lost_and_a_shard_too_many_are_found(folder):
    (folder / SECOND).rename(folder / "shards/train-000009.tar")
    found = audit(folder).finding_counts
    assert found[Code.SHARD_MISSING] == found[Code.SHARD_UNKNOWN] == 1


def test_a_tar_of_another_name_is_found_and_an_attempt_is_ignored(folder):
    shutil.copy(folder / FIRST, folder / "shards/extra.tar")
    shutil.copy(folder / FIRST, folder / "shards/.attempt-0-train-000000.tar")
    assert audit(folder).finding_counts == {Code.SHARD_UNKNOWN: 1}


def test_shares_that_hold_as_a_whole_but_not_on_the_way_are_found(folder):
    """All films first: every quota is met, every tar is off."""
    members = [m for n in range(4) for m in read_tar(folder / f"shards/train-{n:06d}.tar")]
    keys = sorted(keys_of(members), key=lambda key: "-video-" not in key)
    for number in range(4):
        some = keys[12 * number : 12 * (number + 1)]
        write_tar(folder / f"shards/train-{number:06d}.tar", [m for key in some for m in of_key(members, key)])
    launder(folder)
    found = audit(folder).finding_counts
    assert found.keys() == {Code.PREFIX_OFF_SHARE, Code.SHARD_OFF_SHARE, Code.COUNTS_DIFFER}


@pytest.mark.parametrize("key", ["Upper", "", "späth", "a b"])
def test_a_key_that_other_readers_would_misread_is_found(folder, key):
    def change(members):
        old = keys_of(members)[0]
        return [(f"{key}.{n.partition('.')[2]}" if n.partition(".")[0] == old else n, d) for n, d in members]

    found = edit(folder, FIRST, change)
    assert found[Code.KEY_INVALID] == found[Code.JSON_MISPLACED] == 1


def test_a_key_with_a_dot_is_found_by_the_members_it_makes(folder):
    def change(members):
        old = keys_of(members)[0]
        return [(n.replace(old, "dotted.key"), d) for n, d in members]

    found = edit(folder, FIRST, change)
    assert found[Code.MEMBERS_DIFFER] == found[Code.JSON_INVALID] == 1


def ask(content, clip, *t_ms):
    content["clips"][clip].update(t_ns=[ms * 1_000_000 for ms in t_ms], pts_ns=[0] * 4)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda c: c.update(licence=" "), Code.LICENCE_EMPTY),
        (lambda c: c.update(split="heldout"), Code.JSON_MISPLACED),
        (lambda c: c.update(key="train-video-9999"), Code.JSON_MISPLACED),
        (lambda c: c.update(surprise=1), Code.JSON_INVALID),
        (lambda c: c.update(conversations=[]), Code.JSON_INVALID),
        (lambda c: c["clips"][0]["pts_ns"].__setitem__(1, c["clips"][0]["t_ns"][1] + 1), Code.JSON_INVALID),
        (lambda c: ask(c, 0, 0, 400, 800, 1_200), Code.TIMES_OFF_GRID),
        (lambda c: ask(c, 0, 0, 500, 500, 1_500), Code.TIMES_OFF_GRID),
        (lambda c: ask(c, 0, 0, 500, 500, 500), Code.TIMES_OFF_GRID),
        (lambda c: ask(c, 1, 2_000, 2_500, 3_000, 3_500), Code.TIMES_OFF_GRID),
        (lambda c: c["clips"][1].update(start_ns=1_900_000_000), Code.TIMES_OFF_GRID),
        (lambda c: c["clips"][0].update(medium=1), Code.CLIP_OUTSIDE),
        (lambda c: c["clips"][1].update(exclusive_end_ns=3_200_000_000), Code.CLIP_OUTSIDE),
        (lambda c: c.update(media=[]), Code.MODALITY_BELIED),
        (lambda c: c.update(clips=[]), Code.MODALITY_BELIED),
        (lambda c: c["encoders"].pop(), Code.ENCODERS_DIFFER),
        (lambda c: c["encoders"].reverse(), Code.ENCODERS_DIFFER),
        (lambda c: c["encoders"][0].update(weights="so400m.safetensors"), Code.ENCODERS_DIFFER),
        (lambda c: c["generator"].update(name="someone"), Code.COUNTS_DIFFER),
        (lambda c: c["annotator"].update(name="someone"), Code.COUNTS_DIFFER),
        (lambda c: c.update(source="elsewhere"), Code.QUOTA_MISSED),
        (lambda c: c.update(category="egocentric"), Code.COUNTS_DIFFER),
    ],
)  # fmt: skip
def test_a_false_word_in_a_films_json_is_found(folder, change, code):
    assert edit_json(folder, FIRST, is_modality("video"), change)[code] >= 1


GATES = {
    "licences": {"allow": [], "deny": ["CC-BY-NC*"]},
    "annotators": {"allow": [], "deny": ["gpt-4*", "chatgpt*"]},
}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda c: c.update(licence="CC-BY-NC-4.0"), Code.LICENCE_BARRED),
        (lambda c: c.update(licence=f"{c['licence']} AND cc-by-nc-sa-4.0"), Code.LICENCE_BARRED),
        (lambda c: c["annotator"].update(name="GPT-4o"), Code.ANNOTATOR_BARRED),
        (lambda c: c["annotator"].update(model="chatgpt"), Code.ANNOTATOR_BARRED),
        (lambda c: c["generator"].update(name="gpt-4v"), Code.GENERATOR_BARRED),
        (lambda c: c["generator"].update(model="gpt-4-turbo"), Code.GENERATOR_BARRED),
    ],
)
def test_what_the_recipe_bars_is_found_in_the_tars_and_named(folder, change, code):
    assert edit_ledger(folder, lambda c: c.update(gates=GATES)) == {}
    edit_json(folder, SECOND, is_modality("video"), change)
    key = next(k for k in keys_of(read_tar(folder / SECOND)) if "-video-" in k)
    barred = [finding for finding in audit(folder).findings if finding.code.endswith("_barred")]
    assert [(f.code, f.shard, f.key) for f in barred] == [(code, SECOND, key)]
    edit_ledger(folder, lambda c: c.update(gates={}))
    assert code not in audit(folder).finding_counts


def test_a_licence_that_is_not_allowed_is_found_in_every_sample(folder):
    found = edit_ledger(folder, lambda c: c.update(gates={"licences": {"allow": ["MIT"]}}))
    assert found == {Code.LICENCE_BARRED: 45}


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["flows"][1].update(barred=1),
        lambda c: c.update(barred=[{"stratum": "train/text/docs", "gate": "licence", "value": "x", "samples": 1}]),
        lambda c: (
            c["flows"][1].update(barred=4),
            c.update(barred=[{"stratum": "train/text/docs", "gate": "licence", "value": "x", "samples": 4}]),
        ),
    ],
)
def test_an_account_of_barred_candidates_that_does_not_close_is_found(folder, change):
    assert edit_ledger(folder, change) == {Code.FLOW_LEAKS: 1}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda c: c["clips"][0].update(t_ns=[7]), Code.TIMES_OFF_GRID),
        (lambda c: ask(c, 0, 0, 500, 1000, 1500), Code.CLIP_OUTSIDE),
        (lambda c: c["clips"].append(c["clips"][0] | {"medium": 1}), Code.CLIP_OUTSIDE),
        (lambda c: c.update(media=c["media"] * 2), Code.MODALITY_BELIED),
    ],
)
def test_a_false_word_in_a_pictures_json_is_found(folder, change, code):
    assert edit_json(folder, FIRST, is_modality("image"), change)[code] == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda c: c["total"]["train"].update(frames=c["total"]["train"]["frames"] + 1), Code.COUNTS_DIFFER),
        (lambda c: c["total"]["train"].update(media_ns=1), Code.COUNTS_DIFFER),
        (lambda c: c["total"]["train"].update(bytes=1), Code.COUNTS_DIFFER),
        (lambda c: c["by_licence"].pop("train/CC0-1.0"), Code.COUNTS_DIFFER),
        (lambda c: c["by_encoder"]["train/siglip"].update(bytes=1), Code.COUNTS_DIFFER),
        (lambda c: c["by_encoder"].pop("heldout/internvideo2"), Code.COUNTS_DIFFER),
        (lambda c: c["by_annotator"]["train/human"].update(llm_tokens=1), Code.COUNTS_DIFFER),
        (lambda c: c["by_source"].update({"train/ghost": c["total"]["train"]}), Code.COUNTS_DIFFER),
        (lambda c: c["shards"][0]["count"].update(clips=0), Code.COUNTS_DIFFER),
        (lambda c: c["origins"]["photos"].update(licences=["MIT"]), Code.COUNTS_DIFFER),
        (lambda c: c["shards"].reverse(), Code.ROOT_CHANGED),
        (lambda c: c.update(root_sha256="0" * 64), Code.ROOT_CHANGED),
        (lambda c: c["asked"][0].update(found=4), Code.QUOTA_MISSED),
        (lambda c: c["asked"][0].update(asked=6), Code.QUOTA_MISSED),
        (lambda c: c["asked"].pop(0), Code.QUOTA_MISSED),
        (lambda c: c["asked"][0].update(stratum="train/smell/docs"), Code.LEDGER_UNREADABLE),
        (lambda c: c["flows"][0].update(inputs=48), Code.FLOW_LEAKS),
        (
            lambda c: c["flows"][3].update(inputs=2, outputs=2),
            Code.FLOW_LEAKS,
        ),  # closed in itself alone
        (lambda c: c["flows"].pop(1), Code.FLOW_LEAKS),
        (lambda c: (c["flows"].clear(), c["rejected"].clear()), Code.FLOW_LEAKS),
        (lambda c: c["flows"][4].update(outputs=c["flows"][4]["outputs"] - 1, filtered=1), Code.FLOW_LEAKS),
        (lambda c: c["flows"][4].update(outputs=1, rejected=c["flows"][4]["inputs"] - 1), Code.FLOW_LEAKS),
        (lambda c: c["rejected"].update({"decode/poison": 1}), Code.FLOW_LEAKS),
        (lambda c: c.update(fps="4"), Code.TIMES_OFF_GRID),
        (lambda c: c["shares"].update(text="15", image="23"), Code.SHARE_INEXACT),
        (lambda c: c.update(frames_for=[]), Code.MEMBERS_DIFFER),
        (lambda c: c.update(frames_for=["conversational"]), Code.FRAMES_SHAPE),
    ],
)
def test_a_false_word_in_the_ledger_is_found(folder, change, code):
    assert edit_ledger(folder, change)[code] >= 1


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000])
def test_a_ledger_that_cannot_be_read_is_a_finding(folder, content):
    (folder / "ledger.json").unlink()
    if content is not None:
        (folder / "ledger.json").write_bytes(content)
    report = audit(folder)
    assert report.finding_counts == {Code.LEDGER_UNREADABLE: 1}
    assert report.tables["total"]["train"].samples == 40


def test_an_empty_folder_is_a_finding_and_no_error(tmp_path):
    assert audit(tmp_path).finding_counts == {Code.LEDGER_UNREADABLE: 1}
    assert not audit(tmp_path).ok


def test_a_tar_that_cannot_be_opened_is_a_finding(folder):
    (folder / FIRST).unlink()
    (folder / FIRST).mkdir()
    assert audit(folder).finding_counts[Code.TAR_DAMAGED] == 1


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_no_damage_to_a_tar_makes_the_audit_raise_or_pass(whole, tmp_path, seed):
    rng = random.Random(seed)
    target = tmp_path / "shards"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    shutil.copy(whole / "ledger.json", tmp_path)
    for path in (whole / "shards").glob("heldout-*.tar"):
        shutil.copy(path, target)
    data = bytearray((whole / HELDOUT).read_bytes())
    for _ in range(rng.choice([1, 3, 200])):
        # Headers are where a parser stumbles: half of the blows fall there.
        at = rng.randrange(len(data) // 512) * 512 + rng.choice([rng.randrange(512), rng.randrange(160)])
        data[at] = (data[at] + rng.randrange(1, 256)) % 256
    del data[rng.choice([len(data), rng.randrange(len(data))]) :]
    (tmp_path / HELDOUT).write_bytes(data)
    counts = audit(tmp_path).finding_counts
    assert Code.SHARD_CHANGED in counts


def test_a_defect_in_every_sample_is_counted_in_full_and_kept_in_part(folder):
    for number in range(4):
        path = folder / f"shards/train-{number:06d}.tar"
        write_tar(path, read_tar(path), mtime=1)
    report = audit(folder)
    assert report.finding_counts[Code.TAR_HEADER] == 200
    assert len([f for f in report.findings if f.code is Code.TAR_HEADER]) == KEPT_A_CODE


def test_findings_name_shard_and_key(folder):
    key = keys_of(read_tar(folder / SECOND))[2]
    edit_json(folder, SECOND, lambda content: content["key"] == key, lambda content: content.update(licence=""))
    finding = next(f for f in audit(folder).findings if f.code is Code.LICENCE_EMPTY)
    assert (finding.shard, finding.key) == (SECOND, key)


def test_the_fixture_holds_every_kind_of_sample(whole):
    records = [
        ShardSample.model_validate_json(data)
        for name, data in read_tar(whole / FIRST) + read_tar(whole / SECOND)
        if name.endswith(".json")
    ]
    assert {record.modality for record in records} == set(made.Modality)
