"""Laws of exclusion lists on disk: a bad line is told with its number and the mend; content counts, not place."""

import hashlib
import json

import pytest

from flows.exclusion_files import MOST_REASONS, read_exclusions
from flows.yaml_file import FileError
from schemas.exclusions import Excluded


def read(path) -> list[Excluded]:
    found: list[Excluded] = []

    def take(name, records):
        assert name == path.stem
        found.extend(records)
        return len(found)

    (told,) = read_exclusions([str(path)], take)
    assert (told.name, told.records) == (path.stem, len(found))
    assert told.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def mistakes(path) -> dict[int, str]:
    with pytest.raises(FileError) as error:
        read(path)
    assert all(line.startswith(f"{path}:") for line in str(error.value).splitlines())
    return {mistake.line: mistake.message for mistake in error.value.mistakes}


def test_objects_and_plain_lines_are_told_apart(tmp_path):
    path = tmp_path / "list.txt"
    lines = [
        "\ufeff# taken down", "", '{"key": "a-1", "reason": "asked for"}', "  dQw4w9WgXcQ\r", "A" * 64,
        "vids/x.mp4", ' {"question": "What is\\u2028this?"}', "two words\u2028more",
    ]  # fmt: skip
    path.write_bytes("\n".join(lines).encode())
    assert read(path) == [
        Excluded(key="a-1", reason="asked for"),
        Excluded(name="dQw4w9WgXcQ"),
        Excluded(sha256="a" * 64),
        Excluded(name="vids/x.mp4"),
        Excluded(question="What is\u2028this?"),
        Excluded(name="two words\u2028more"),
    ]


def test_an_empty_list_names_nobody(tmp_path):
    (tmp_path / "takedowns.txt").write_text("")
    assert read(tmp_path / "takedowns.txt") == []


def test_every_bad_line_is_told_with_its_number_and_the_mend(tmp_path):
    bad = {
        2: ('{"key": "a"', "give one whole JSON object a line"),
        3: ("[1, 2]", "give one JSON object a line"),
        4: ('{"video": "x"}', "no field 'video' here: a record has key, sha256, media, question or name"),
        5: ('{"reason": "x"}', "names nothing: a record has one of key,"),
        6: ('{"key": "a", "media": "b"}', "names key and media: a record has one of"),
        7: ('{"key": "A.b"}', "key: String should match pattern"),
        8: ('{"sha256": "12"}', "sha256: String should match pattern"),
        9: ('{"question": "?!"}', "has no word that could be compared"),
        11: ('{"media": 7}', "media: Input should be a valid string, got 7"),
    }
    lines = ["good", *(bad[n][0] if n in bad else "" for n in range(2, 12))]
    path = tmp_path / "list.jsonl"
    path.write_bytes("\n".join(lines).encode() + b"\n\xff\xfe\n")
    found = mistakes(path)
    assert found.keys() == {*bad, 12}
    assert "not UTF-8 text (byte 0xff): save the file as UTF-8" in found[12]
    for number, (_, words) in bad.items():
        assert words in found[number]


def test_a_list_that_is_not_there_is_told(tmp_path):
    assert "cannot be read (No such file or directory)" in mistakes(tmp_path / "absent.txt")[0]


def test_mistakes_and_reasons_without_end_are_cut_off(tmp_path):
    path = tmp_path / "list.jsonl"
    path.write_text("[\n" * 1000)
    assert list(mistakes(path)) == list(range(1, 21))
    rows = [json.dumps({"key": f"k{i}", "reason": f"because {i}"}) for i in range(MOST_REASONS + 1)]
    path.write_text("\n".join(rows))
    assert "more than 1000 different reasons" in mistakes(path)[MOST_REASONS + 1]
    path.write_text("\n".join(rows[:-1]))
    assert len(read(path)) == MOST_REASONS
