"""What `mixture quarantine` prints. Names and digests are never cut; all else keeps to the terminal's width."""

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from textwrap import TextWrapper
from typing import Any

from flows.mends import MENDS
from flows.quarantine import Quarantined
from flows.requeue import Requeued
from flows.specimen import Bytes, Medium, Specimens, Trial
from flows.tables import print_json, print_lines, print_table

INDENT = "    "


def print_rejections(rejections: Sequence[Quarantined], as_json: bool) -> None:
    """How many by stage and reason, then each with its reason and where its bytes are."""
    if as_json:
        print_json([rejection.model_dump(mode="json") for rejection in rejections])
        return
    sums = Counter((each.stage, each.reason) for each in rejections)
    rows = [(*of, count) for of, count in sorted(sums.items())]
    print_table(f"{len(rejections)} rejected", ["stage", "reason", "#samples"], rows)
    for each in rejections:
        print_lines([f"{each.key}  {each.stage}, {each.reason}"])
        print_lines(_wrapped(f"{each.source}: {each.where}"))
        print_lines(_wrapped(each.detail))


def print_shown(refused: Quarantined, specimens: Specimens, again: str, as_json: bool) -> None:
    """All that helps to mend one rejection; `again` is the command that shows it again."""
    media = specimens.media(refused)
    shown: dict[str, Any] = {
        **refused.model_dump(mode="json"),
        "annotation": specimens.annotation(refused),
        "media": [{**m.model_dump(mode="json"), "state": m.state} for m in media],
        "held_by": specimens.held_by(refused),
        "mends": MENDS[refused.reason],
        "again": again,
    }
    if as_json:
        print_json(shown)
    else:
        print_lines(_shown_lines(refused, media, shown))


def _shown_lines(refused: Quarantined, media: Sequence[Medium], shown: dict[str, Any]) -> Iterator[str]:
    yield f"{refused.key}  {refused.stage}, {refused.reason}"
    yield from _wrapped(refused.detail)
    yield f"source      {refused.source}"
    if shown["annotation"]:
        yield f"annotation  {shown['annotation']}"
    for medium in media:
        yield f"{medium.kind:11} {medium.place}"
        yield from _bytes("ingest saw", medium.then, "unknown: it did not accept it")
        yield from _bytes(f"now ({medium.state})", medium.now, "no such file")
    yield f"tried       {refused.tries} times" if refused.tries > 1 else "tried       once"
    for place in shown["held_by"]:
        yield f"held by     {place}"
    yield from _field("its place", place_words(refused))
    yield from _field("mends it", MENDS[refused.reason])
    yield "see it again"
    yield f"{INDENT}{shown['again']}"


def place_words(refused: Quarantined) -> str:
    """What became of its place in the mixture."""
    if refused.stage == "ingest":
        return "never a candidate: the quota was filled without it"
    if refused.replaced is None:
        return "unknown: the build did not end"
    if refused.replaced.by:
        return f"taken in {refused.replaced.stratum} by the reserve {refused.replaced.by}"
    return f"none: it was a reserve of {refused.replaced.stratum}, and the next one was asked instead"


def print_trials(key: str, trials: Sequence[Trial], requeue: str, as_json: bool) -> None:
    """What the stage says; `requeue` is the command for one that it accepts."""
    if as_json:
        found = [(t.of, t.refused.model_dump(mode="json") if t.refused else None) for t in trials]
        print_json({"key": key, "trials": [{"of": of, "rejection": refused} for of, refused in found]})
        return
    for trial in trials:
        refused = trial.refused
        said = f"rejected by {refused.stage}, {refused.reason}" if refused else "accepted"
        print_lines([f"{key}, {trial.of}: {said}"])
        print_lines(_wrapped(refused.detail) if refused else ())
    if not trials[-1].refused:
        print_lines([f"next: {requeue}"])


def print_requeued(done: Requeued, known: int, build: str, as_json: bool) -> None:
    """What will be tried again, by the command `build`."""
    if as_json:
        print_json({"requeued": done.keys, "shared": done.shared, "rows": done.rows, "mixtures": done.mixtures})
        return
    print_lines([f"{len(done.keys)} of {known} rejections will be tried again"])
    if done.shared:
        named = ", ".join(done.shared)
        print_lines(_wrapped(f"and, as their media changed too, {len(done.shared)} more: {named}"))
    if done.mixtures:
        print_lines(_wrapped(f"finished mixtures to be made anew: {done.mixtures}"))
    print_lines([f"next: {build}"])


def _field(name: str, text: str) -> Iterator[str]:
    yield from _filled(text, f"{name:12}", " " * 12)


def _bytes(when: str, found: Bytes | None, otherwise: str) -> Iterator[str]:
    yield f"{INDENT}{when}: " + (f"{found.size_bytes:,} bytes, sha256" if found else otherwise)
    if found:
        yield f"{INDENT}{INDENT}{found.sha256}"


def _wrapped(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield from _filled(line, INDENT, INDENT)


def _filled(text: str, first: str, indent: str) -> list[str]:
    width = max(40, shutil.get_terminal_size().columns)
    filler = TextWrapper(
        width, initial_indent=first, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return filler.wrap(text)
