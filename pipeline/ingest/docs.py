"""Questions and answers from the docstrings of installed scientific packages (text only).

Docstrings follow the numpydoc standard: a summary, then sections underlined with dashes, whose entries
are `name : type` with an indented description.
"""

import inspect
import re
import warnings
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import metadata, packages_distributions, version
from importlib.util import find_spec
from itertools import islice
from types import ModuleType

from pydantic import ValidationError

from pipeline.ingest.annotations import Written, refuse
from pipeline.ingest.source import Entry, Source
from pipeline.storage.places import Place
from schemas.base import digest, sha256_text
from schemas.rejection import Rejection
from schemas.sample import Modality, Sample
from schemas.sources import DocsSource

QUESTIONS = range(2, 5)
"""How many questions a sample has."""
LENGTH = range(20, 601)
"""How many characters an answer has: shorter ones say nothing, longer ones are no answer in a talk."""

_SECTION = re.compile(r"^([A-Z][A-Za-z ]+)\n-{3,}[ ]*$", re.MULTILINE)
_SIGNATURES = re.compile(r"\A(?:[\w.]+\([^)]*\)[^\n]*(?:\n\n|\Z))+")
"""A ufunc written in C has its signature in its docstring, at times twice."""
_ROLE = re.compile(r":(?!math)[\w:]+:`~?([^`<]+?)(?: <[^>]+>)?`")
_EMPHASIS = re.compile(r"(?<![\w*])[*](\w[^*]*\w)[*](?![\w*])")
_FOOTNOTE = re.compile(r"\s*\[[\w*]+\]_")
_ODD = re.compile(
    r"::|:math:|>>>|\.\. |\\|\||`_|https?:|[*]{2}|<|^[-*] |\s[-*] |[:,(]$"
    r"|^of |see |refer to|deprecated|below|above",
    re.IGNORECASE,
)
"""Left-over markup, lists, formulas, and words that point to what an answer alone does not show."""


class Docs(Source):
    """Two to four questions about each of `spec.limit` public objects of `spec.packages`."""

    def __init__(self, spec: DocsSource) -> None:
        self._spec = spec

    def fingerprint(self) -> str:
        """Changes with the version of any of the packages."""
        return digest({package: version(_distribution(package)) for package in self._spec.packages})

    def media_root(self, folder: Place) -> Place:
        """Text has no media: `folder`, which stays empty."""
        return folder

    def entries(self) -> Iterator[Entry]:
        """At most `spec.limit` objects in the order of their names' hashes: a larger limit keeps the earlier ones.

        An answer is given once: what NumPy says of `out` at every function would drown the rest.
        """
        return islice(self._all(), self._spec.limit)

    def sample(self, entry: Entry, folder: Place) -> Sample | Rejection:
        """The entry as a sample without media."""
        try:
            return Written.model_validate(entry.payload).sample(entry, self._spec.name, Modality.TEXT)
        except ValidationError as error:
            return refuse(entry, self._spec.name, error)

    def _all(self) -> Iterator[Entry]:
        found: dict[str, tuple[object, dict[str, object]]] = {}
        for package in self._spec.packages:
            things, origin = public_objects(package), origin_of(package)
            found.update((name, (thing, origin)) for name, thing in things.items())
        given: set[str] = set()
        for name in sorted(found, key=sha256_text):
            thing, origin = found[name]
            fresh = [asked for asked in ask(name, thing) if asked["answer"] not in given]
            chosen = fresh[: QUESTIONS[-1]]
            if len(chosen) not in QUESTIONS:
                continue
            given.update(asked["answer"] for asked in chosen)
            payload = {"category": "conversational", "annotations": chosen} | origin
            yield Entry(self.key_of(name), payload, name)

    def key_of(self, name: str) -> str:
        """The key of the object with this dotted name."""
        # Names differ in case (`Rbf`, `rbf`), keys cannot: six digits of the name's hash keep them apart.
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower())
        return f"{self._spec.name}-{slug}"[:73] + f"-{sha256_text(name)[:6]}"


def public_objects(package: str) -> dict[str, object]:
    """Documented callables by their dotted public names, each object once, under the first name in sorted order.

    Raises ModuleNotFoundError if the package is not installed.
    """
    if find_spec(package) is None:
        raise ModuleNotFoundError(
            f"the package {package!r} is not installed: pip install 'video-mixture[demo]', "
            "or leave it out of the source's `packages`",
            name=package,
        )
    found: dict[str, object] = {}
    with warnings.catch_warnings():
        # Touching an old alias may warn; what is deprecated says so in its docstring and is left out there.
        warnings.simplefilter("ignore")
        _collect(import_module(package), package, found, set())
    return found


def ask(name: str, thing: object) -> list[dict[str, str]]:
    """Questions about one object: what it does, what it returns, what its parameters mean; in this order."""
    text = inspect.getdoc(thing) or ""
    if "deprecated" in text[:600].lower():
        return []
    head, sections = split_sections(text)
    summary = plain(_SIGNATURES.sub("", head))
    if summary is None:
        return []
    acts = inspect.isroutine(thing) or type(thing).__name__ == "ufunc"
    asked = [_ask(f"What does `{name}` do?" if acts else f"What is `{name}`?", summary, "summary")]
    match entries_of(sections.get("Returns", "")):
        case [(_, described)] if (returned := plain(described)) is not None:
            asked.append(_ask(f"What does `{name}` return?", returned, "return value"))
    for parameter, described in entries_of(sections.get("Parameters", "")):
        if parameter.isidentifier() and (meaning := plain(described)) is not None:
            asked.append(_ask(f"What does the parameter `{parameter}` of `{name}` mean?", meaning, "parameter"))
    return asked


def split_sections(text: str) -> tuple[str, dict[str, str]]:
    """The text before the first section, and the sections by title."""
    head, *rest = _SECTION.split(text)
    return head, {title: body.strip("\n") for title, body in zip(rest[::2], rest[1::2], strict=True)}


def plain(text: str) -> str | None:
    """The first paragraph without reStructuredText, as one line; None where it would make an odd answer."""
    paragraph = " ".join(inspect.cleandoc(text).strip().split("\n\n")[0].split())
    paragraph = _FOOTNOTE.sub("", _EMPHASIS.sub(r"\1", _ROLE.sub(r"`\1`", paragraph))).replace("``", "`")
    cut = paragraph.count("`") % 2 or paragraph.count("(") != paragraph.count(")")
    if cut or _ODD.search(paragraph) or len(paragraph) not in LENGTH:
        return None
    sentence = paragraph if paragraph.endswith((".", "!", "?")) else paragraph + "."
    return sentence[0].upper() + sentence[1:]


def entries_of(section: str) -> list[tuple[str, str]]:
    """The entries `name : type` of a section with their descriptions, in order."""
    entries: list[tuple[str, list[str]]] = []
    for line in section.splitlines():
        if line and not line[0].isspace():
            entries.append((line.partition(":")[0].strip(), []))
        elif entries:
            entries[-1][1].append(line)
    return [(name, "\n".join(lines)) for name, lines in entries]


def origin_of(package: str) -> dict[str, object]:
    """Licence and annotator of all samples of a package.

    The answers are the package's own words, the questions a template's.
    """
    distribution = _distribution(package)
    annotator = {"name": "template", "model": f"docstrings of {package}", "revision": version(distribution)}
    return {"licence": licence_of(distribution), "annotator": annotator}


def licence_of(distribution: str) -> str:
    """SPDX expression of its metadata, or `LicenseRef-<distribution>` where it has only a long text."""
    fields = metadata(distribution)
    declared = next((fields[name] for name in ("License-Expression", "License") if name in fields), "")
    # NumPy and SciPy paste the whole text of their licence; the third clause tells it from BSD-2-Clause.
    if "Redistribution and use in source and binary forms" in declared and "Neither the name" in declared:
        return "BSD-3-Clause"
    return declared if 0 < len(declared) <= 200 and "\n" not in declared else f"LicenseRef-{distribution}"


def _collect(module: ModuleType, package: str, found: dict[str, object], seen: set[int]) -> None:
    seen.add(id(module))
    # NumPy builds `__all__` from sets, so its order changes from one process to the next.
    public = getattr(module, "__all__", vars(module))
    things = {name: getattr(module, name, None) for name in sorted(public) if not name.startswith("_")}
    for name, thing in things.items():
        own_name = getattr(thing, "__name__", name)
        is_alias = own_name != name and own_name in things
        if callable(thing) and id(thing) not in seen and not is_alias and name != "test":
            seen.add(id(thing))
            found[f"{module.__name__}.{name}"] = thing
    for thing in things.values():
        if isinstance(thing, ModuleType) and id(thing) not in seen and _is_public(thing, package):
            _collect(thing, package, found, seen)


def _is_public(module: ModuleType, package: str) -> bool:
    parts = module.__name__.split(".")
    return parts[0] == package and not any(part.startswith("_") or part in ("testing", "tests") for part in parts)


@cache
def _distribution(package: str) -> str:
    # Reads the metadata of everything that is installed, which takes a tenth of a second.
    return packages_distributions().get(package, [package])[0]


def _ask(question: str, answer: str, topic: str) -> dict[str, str]:
    return {"question": question, "answer": answer, "topic": topic, "evidence": "text"}
