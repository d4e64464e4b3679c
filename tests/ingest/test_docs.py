"""Docstrings as talk: whole sentences without markup, in an order that no process or limit changes."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from pipeline.ingest.docs import Docs, ask, plain, public_objects
from pipeline.ingest.source import Entry
from schemas.base import KEY_PATTERN
from schemas.rejection import Rejection
from schemas.sample import Modality, Sample
from schemas.sources import DocsSource

NOWHERE = Path("not-written-to")
LISTING = """
import json, sys
from pipeline.ingest.docs import Docs
from schemas.sources import DocsSource
entries = Docs(DocsSource(kind="docs", packages=("numpy",), limit=20_000)).entries()
json.dump([[entry.key, entry.payload] for entry in entries], sys.stdout)
"""


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    return list(Docs(DocsSource(kind="docs")).entries())


@pytest.fixture(scope="module")
def samples(entries) -> list[Sample]:
    docs = Docs(DocsSource(kind="docs"))
    made = [docs.sample(entry, NOWHERE) for entry in entries]
    assert not [outcome for outcome in made if isinstance(outcome, Rejection)]
    return made


def documented(first: int, second: int = 0) -> float:
    """documented(first, second=0)

    Add two ``numbers`` the way :func:`operator.add` does [1]_.

    More words that nobody asks about.

    Parameters
    ----------
    first : int
        The number that is *always* added.

        A second paragraph.
    second : int, optional
        Short.
    *others : int
        Not a plain name, so nothing is asked.

    Returns
    -------
    total : float
        The sum of both numbers.

    Examples
    --------
    >>> documented(1, 2)
    3.0
    """
    return float(first + second)


def test_as_many_samples_are_made_as_the_limit_says(samples):
    assert len(samples) == 400


def test_every_sample_asks_two_to_four_questions_of_text(samples):
    for sample in samples:
        assert (sample.modality, sample.media) == (Modality.TEXT, ())
        assert 2 <= len(sample.annotations) <= 4
        assert {annotation.evidence for annotation in sample.annotations} == {"text"}


def test_no_answer_holds_markup_or_is_given_twice(samples):
    answers = [annotation.answer for sample in samples for annotation in sample.annotations]
    assert len(set(answers)) == len(answers)
    for answer in answers:
        assert not re.search(r"``|:\w+:`|\[\d+\]_|>>>|\.\. |::|\n|\*\*", answer), answer
        assert answer.count("`") % 2 == 0, answer
        assert answer[-1] in ".!?", answer
        assert answer[0] == answer[0].upper()


def test_no_name_is_private(entries):
    assert not [entry.where for entry in entries if any(part.startswith("_") for part in entry.where.split("."))]


def test_a_docstring_becomes_its_summary_its_return_value_and_its_parameters():
    assert [(asked["question"], asked["answer"]) for asked in ask("m.documented", documented)] == [
        ("What does `m.documented` do?", "Add two `numbers` the way `operator.add` does."),
        ("What does `m.documented` return?", "The sum of both numbers."),
        ("What does the parameter `first` of `m.documented` mean?", "The number that is always added."),
    ]


def test_a_deprecated_object_is_left_out():
    def old() -> None:
        """Do something that is long enough.

        .. deprecated:: 1.0
        """

    assert ask("m.old", old) == []


@pytest.mark.parametrize(
    "text",
    [
        "Too short.",
        "word " * 200,
        "One of the following methods is used:",
        "The sum :math:`x + y` of both numbers.",
        "Is equal to |x| for all of the numbers.",
        ".. versionadded:: 1.8 and some more words",
        "See the notes for a longer explanation.",
        "The methods are listed in the table below.",
        "An `unfinished quotation of a name.",
        "A bracket that (never closes again.",
        ">>> a = documented(1, 2) is an example",
    ],
)
def test_what_would_be_an_odd_answer_is_none(text):
    assert plain(text) is None


def test_an_alias_is_asked_about_under_its_own_name_only():
    found = public_objects("numpy")
    assert "numpy.absolute" in found
    assert "numpy.abs" not in found
    assert len({id(thing) for thing in found.values()}) == len(found)


def test_an_object_with_two_foreign_names_goes_by_the_first_in_sorted_order(tmp_path, monkeypatch):
    (tmp_path / "toy_documented.py").write_text('__all__ = ["b", "a"]\ndef shared(): "Do."\na = b = shared\n')
    monkeypatch.syspath_prepend(tmp_path)
    assert list(public_objects("toy_documented")) == ["toy_documented.a"]


def test_a_larger_limit_keeps_what_a_smaller_one_chose(entries):
    assert list(Docs(DocsSource(kind="docs", limit=30)).entries()) == entries[:30]


def test_the_choice_is_no_alphabetical_head(entries):
    names = [entry.where for entry in entries]
    assert names != sorted(names)
    assert {name.split(".")[0] for name in names[:40]} == {"numpy", "scipy"}


def test_another_process_lists_the_same_entries():
    # NumPy's `__all__` is made of sets: its order follows the hash seed of the process.
    listings = [
        subprocess.run(
            [sys.executable, "-c", LISTING],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert listings[0] == listings[1]
    assert len(json.loads(listings[0])) > 100


def test_keys_are_unique_and_fit_a_webdataset():
    keys = [entry.key for entry in Docs(DocsSource(kind="docs", limit=20_000)).entries()]
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch(KEY_PATTERN, key) for key in keys)


def test_a_long_name_still_makes_a_key():
    assert re.fullmatch(KEY_PATTERN, Docs(DocsSource(kind="docs")).key_of("m." + "x" * 200))


def test_names_that_differ_in_case_have_different_keys():
    docs = Docs(DocsSource(kind="docs"))
    assert docs.key_of("m.Rbf") != docs.key_of("m.rbf")


def test_samples_carry_the_packages_licence_and_version(samples):
    # NumPy's wheels since 2.4 name the licences of what they bundle as well.
    assert {sample.licence.partition(" AND ")[0] for sample in samples} == {"BSD-3-Clause"}
    assert {(s.annotator.model, s.annotator.revision) for s in samples} == {
        ("docstrings of numpy", version("numpy")),
        ("docstrings of scipy", version("scipy")),
    }


def test_the_fingerprint_changes_with_a_packages_version(monkeypatch):
    before = Docs(DocsSource(kind="docs")).fingerprint()
    monkeypatch.setattr("pipeline.ingest.docs.version", lambda distribution: "0.0")
    assert Docs(DocsSource(kind="docs")).fingerprint() != before


def test_a_missing_package_is_named_with_its_mend():
    docs = Docs(DocsSource(kind="docs", packages=("no_such_package",)))
    with pytest.raises(ModuleNotFoundError, match=r"'no_such_package'.*pip install 'video-mixture\[demo\]'"):
        next(docs.entries())


@pytest.mark.parametrize("payload", [None, {}, {"annotations": [{"question": "Why?"}]}])
def test_a_bad_entry_is_a_rejection(payload):
    outcome = Docs(DocsSource(kind="docs")).sample(Entry("docs-x", payload, "numpy.x"), NOWHERE)
    assert isinstance(outcome, Rejection)
    assert outcome.where == "numpy.x"
