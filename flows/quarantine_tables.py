"""What `mixture quarantine` prints. Names and digests are never cut; all else keeps to the terminal's width."""

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from textwrap import wrap
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
        yield f"{INDENT}ingest saw  {_bytes(medium.then) if medium.then else 'unknown: ingest did not accept it'}"
        yield f"{INDENT}now         {_bytes(medium.now) if medium.now else 'no such file'} ({medium.state})"
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


def print_trials(key: str, trials: Sequence[Trial], as_json: bool) -> None:
    """What the stage says."""
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
        print_lines(["next: mixture quarantine requeue, then mixture build"])


def print_requeued(done: Requeued, known: int, recipe: str, as_json: bool) -> None:
    """What will be tried again."""
    if as_json:
        print_json({"requeued": done.keys, "shared": done.shared, "rows": done.rows, "mixtures": done.mixtures})
        return
    print_lines([f"{len(done.keys)} of {known} rejections will be tried again: next, mixture build {recipe}"])
    if done.shared:
        named = ", ".join(done.shared)
        print_lines(_wrapped(f"and {len(done.shared)} samples of the same media, which changed: {named}"))
    if done.mixtures:
        print_lines(_wrapped(f"{done.mixtures} finished mixtures rest on them: the build makes them anew"))


def _field(name: str, text: str) -> Iterator[str]:
    width = max(40, shutil.get_terminal_size().columns)
    yield from wrap(text, width, initial_indent=f"{name:12}", subsequent_indent=" " * 12, break_long_words=False)


def _bytes(found: Bytes) -> str:
    return f"sha256 {found.sha256}, {found.size_bytes:,} bytes"


def _wrapped(text: str) -> Iterator[str]:
    width = max(40, shutil.get_terminal_size().columns)
    for line in text.splitlines():
        yield from wrap(line, width, initial_indent=INDENT, subsequent_indent=INDENT, break_long_words=False)
