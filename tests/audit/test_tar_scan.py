"""The scan against `tarfile`, on any tars: the same members, or a finding."""

import io
import os
import tarfile

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tars import tar_of

from pipeline.audit.findings import Code, FindingLog
from pipeline.audit.header import BLOCK, HeaderError, parse_header
from pipeline.audit.scan import ShardScan

NAME = "shards/train-000000.tar"
FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
names = st.from_regex(r"[a-z0-9_-]{1,80}\.(json|siglip\.npy|x\.json)", fullmatch=True)
files = st.lists(st.tuples(names, st.binary(max_size=1_500)), max_size=6)
facts = st.fixed_dictionaries(
    {},
    optional={
        "mtime": st.integers(0, 2**33 - 1),
        "uid": st.integers(0, 2**21 - 1),
        "gid": st.integers(0, 2**21 - 1),
        "mode": st.integers(0, 0o7777),
        "uname": st.text(max_size=10),
        "gname": st.text(max_size=10),
        "linkname": st.text(max_size=20),
        "type": st.sampled_from([tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.SYMTYPE, b"Z"]),
    },
)


def by_tarfile(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [(member.name, tar.extractfile(member).read()) for member in tar]


def scanned(folder, data, quick=False):
    """Members as the scan sees them, payloads as bytes, and the findings by code."""
    (folder / "shards").mkdir(exist_ok=True)
    (folder / NAME).write_bytes(data)
    log, found = FindingLog(), []
    for sample in ShardScan(folder, NAME, log, quick):
        for suffix, size, payload in sample.members:
            assert payload is None or len(payload) == size
            found.append((f"{sample.key}.{suffix}", size if payload is None else bytes(payload)))
    return found, log.counts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("scan")


@given(files)
def test_a_tar_of_ours_has_the_members_that_tarfile_sees(folder, members):
    data = tar_of(members)
    assert scanned(folder, data) == (by_tarfile(data), {})


@given(files)
def test_a_quick_scan_sees_the_same_json_and_the_sizes_of_the_rest(folder, members):
    expected = [(name, data if name.endswith("json") else len(data)) for name, data in members]
    assert scanned(folder, tar_of(members), quick=True) == (expected, {})


@given(files, facts, st.sampled_from(FORMATS))
def test_a_strangers_tar_has_the_members_that_tarfile_sees_or_is_a_finding(folder, members, told, form):
    try:
        data = tar_of(members, form, **told)
    except (ValueError, tarfile.TarError):  # what the format cannot say
        return
    found, counts = scanned(folder, data)
    if not counts:
        assert found == by_tarfile(data)
    if not counts and members:
        assert data == tar_of(members)


@given(files.filter(bool), st.data())
def test_a_blow_anywhere_in_a_header_is_a_finding(folder, members, drawn):
    data = bytearray(tar_of(members))
    offsets = [0]
    for _, payload in members:
        offsets.append(offsets[-1] + BLOCK - (-len(payload) // BLOCK) * BLOCK)
    at = drawn.draw(st.sampled_from(offsets[:-1])) + drawn.draw(st.integers(0, BLOCK - 1))
    data[at] ^= drawn.draw(st.integers(1, 255))
    assert scanned(folder, bytes(data))[1]


@given(
    st.binary(min_size=BLOCK, max_size=BLOCK)
    | st.builds(
        lambda start, patch, at: (start[:at] + patch + start[at + len(patch) :])[:BLOCK],
        st.just(tar_of([("key.json", b"12345")])[:BLOCK]),
        st.binary(min_size=1, max_size=12),
        st.integers(0, 500),
    ),
    st.booleans(),
)
def test_any_block_is_read_as_tarfile_reads_it_or_refused(block, sealed):
    if sealed:  # a checksum that fits, so that the other fields are looked at
        total = sum(block) - sum(block[148:156]) + 256
        block = block[:148] + b"%06o\0 " % total + block[156:]
    try:
        name, size, strange = parse_header(block)
    except HeaderError:
        return
    told = tarfile.TarInfo.frombuf(block, "utf-8", "replace")
    assert told.isreg()
    assert (name, size) == (told.name, told.size)
    ours = tarfile.TarInfo(told.name)
    ours.size = told.size
    if not strange:
        assert block == ours.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape")


@given(st.binary(min_size=1, max_size=100).filter(lambda name: b"\0" not in name))
@example(b"\xff" * 100)
def test_a_header_of_any_name_is_read_by_comparisons_and_one_with_another_checksum_is_refused(name):
    """Also of one that is no UTF-8, whose bytes sum to as much as any."""
    block = tar_of([("k.json", b"12345")])[:BLOCK]
    block = name.ljust(100, b"\0") + block[100:148] + bytes(8) + block[156:]
    total = sum(block) + 8 * ord(" ")
    sealed, other = (block[:148] + b"%06o\0 " % each + block[156:] for each in (total, total + 1))
    assert parse_header(sealed) == (name.decode("utf-8", "replace"), 5, "")
    with pytest.raises(HeaderError, match="checksum"):
        parse_header(other)


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("member", ["k.json", "k.siglip.npy"])
def test_a_size_that_the_file_cannot_hold_takes_no_memory(folder, member, quick):
    data = bytearray(tar_of([(member, b"x")]))
    info = tarfile.TarInfo(member)
    info.size = 8**11 - 1
    data[:BLOCK] = info.tobuf(tarfile.USTAR_FORMAT)
    assert scanned(folder, bytes(data), quick) == ([], {Code.TAR_DAMAGED: 1})


@pytest.mark.parametrize("quick", [False, True])
def test_a_tar_that_becomes_shorter_while_it_is_read_is_a_finding(folder, quick):
    data = tar_of([(f"{n}.json", bytes(50_000)) for n in range(4)])
    (folder / "shards").mkdir(exist_ok=True)
    (folder / NAME).write_bytes(data)
    log = FindingLog()
    samples = iter(ShardScan(folder, NAME, log, quick))
    next(samples)
    with (folder / NAME).open("r+b") as file:
        file.truncate(len(data) // 2)
    list(samples)
    assert log.counts == {Code.TAR_DAMAGED: 1}
    assert "became shorter" in log.kept[0].message


def test_a_pipe_in_place_of_a_tar_is_refused_and_not_waited_for(folder):
    (folder / "shards").mkdir(exist_ok=True)
    pipe = "shards/train-000001.tar"
    os.mkfifo(folder / pipe)
    with pytest.raises(OSError, match="no regular file"):
        list(ShardScan(folder, pipe, FindingLog()))


@pytest.mark.parametrize("size", [b"0000000_005", b"+0000000005", b" 0000000005", b"0o000000005", b"00000000009"])
def test_a_size_that_only_python_would_take_for_octal_is_no_header_of_ours(size):
    block = tar_of([("k.json", b"12345")])[:BLOCK]
    block = block[:124] + size + block[135:148] + bytes(8) + block[156:]
    sealed = block[:148] + b"%06o\0 " % (sum(block) + 8 * ord(" ")) + block[156:]
    try:
        assert parse_header(sealed)[2]
    except HeaderError as error:
        assert "octal" in str(error)  # noqa: PT017
