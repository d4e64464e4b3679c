"""Puts a finished mixture into an object store, where no folder can be swapped in one step.

    note (clearing) -> ledger goes -> all that is not kept goes -> note (cleared) -> objects -> ledger -> note goes

The ledger is what makes a folder a mixture: it is the first object to go and the last to come, so a reader sees the
old mixture, none, or the new one. The note says how far a publish came that was killed: until it reads `cleared`,
objects under the new names may be old ones; after it, whatever is there is new and need not be sent again.
Nothing rests on a list alone, which a store may answer late: names come from ledgers, and each object is asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeVar

from pydantic import ValidationError

from pipeline.shards.contents import tar_names
from pipeline.storage.files import copy, size_of, write_text
from pipeline.storage.places import Place, S3Path
from schemas.base import Name, Record, Sha256, digest
from schemas.ledger import LEDGER, Ledger

Result = TypeVar("Result")

REQUESTS_AT_ONCE = 8
NOTE = ".publishing.json"
"""Where the note stands beside the ledger; present only while a mixture is published, or after a kill."""


class Publishing(Record):
    """How far a publish came."""

    recipe: Name
    objects_sha256: Sha256
    """`digest` of names and sizes of what is to be there."""
    state: Literal["clearing", "cleared"]
    kept: tuple[str, ...]
    """Objects of the old mixture that are the new one's too."""
    others: tuple[str, ...]
    """All other names that the old mixture or this one has."""


def publish_objects(wanted: Mapping[str, Place], recipe: str, output: S3Path) -> None:
    """Makes `output` hold exactly `wanted` (name -> file; one is the ledger), in whatever state a kill left it."""
    sizes = {name: path.stat().st_size for name, path in wanted.items()}
    note = _note(output)
    if note is None and _complete(wanted, sizes, output):
        return
    objects_sha256 = digest([*sorted(sizes.items()), wanted[LEDGER].read_text(encoding="utf-8")])
    if note is None or note.objects_sha256 != objects_sha256:
        old = _ledger(output)
        # After a publish of another mixture that was killed nobody can tell whose objects these are.
        kept = _kept(old, Ledger.read(wanted[LEDGER].parent)) if old and not note else set[str]()
        others = {*wanted, *(tar_names(old) if old else ()), *(note.kept + note.others if note else ())} - kept
        note = Publishing(
            recipe=recipe,
            objects_sha256=objects_sha256,
            state="clearing",
            kept=tuple(sorted(kept)),
            others=tuple(sorted(others)),
        )
        _write(output, note)
    if note.state == "clearing":
        _clear(output, note)
        note = note.model_copy(update={"state": "cleared"})
        _write(output, note)
    for name in sorted(wanted.keys() - {LEDGER}):
        if size_of(output / name) != sizes[name]:
            copy(wanted[name], output / name)
    copy(wanted[LEDGER], output / LEDGER)
    (output / NOTE).unlink(missing_ok=True)


def unfinished(output: S3Path) -> str:
    """Name of the recipe whose mixture was being put there when a publish was killed; empty if none was."""
    note = _note(output)
    return note.recipe if note else ""


def _clear(output: S3Path, note: Publishing) -> None:
    """The ledger first: from then on no reader takes the folder for a mixture."""
    (output / LEDGER).unlink(missing_ok=True)
    there = {path.relative_to(output).as_posix() for path in output.rglob("*")}
    doomed = {*there, *note.others} - {*note.kept, NOTE, LEDGER}
    for name in sorted(doomed):  # one by one: `rclone serve s3` may hang where several go from one folder at once
        (output / name).unlink(missing_ok=True)


def _kept(old: Ledger, new: Ledger) -> set[str]:
    """Tars of the new mixture that the old one holds, by their digests; an equal tar has an equal index."""
    had = _digests(old)
    same = {name for name, sha256 in _digests(new).items() if had.get(name) == sha256}
    return same | {f"{name}.idx" for name in same}


def _digests(ledger: Ledger) -> dict[str, Sha256]:
    columns = [tar for column in ledger.columns for tar in column.shards]
    return {tar.name: tar.sha256 for tar in ledger.shards} | {tar.name: tar.sha256 for tar in columns}


def _complete(wanted: Mapping[str, Place], sizes: Mapping[str, int], output: S3Path) -> bool:
    """Whether all is there: the ledger to the byte, which comes last; of the rest each object and its size."""
    if not _same_bytes(wanted[LEDGER], output / LEDGER):
        return False
    small = [name for name in wanted if not name.startswith("shards/")]
    return all(_same_bytes(wanted[name], output / name) for name in small) and (
        _at_once(lambda name: size_of(output / name), list(sizes)) == list(sizes.values())
    )


def _same_bytes(path: Place, other: S3Path) -> bool:
    return size_of(other) == path.stat().st_size and path.read_bytes() == other.read_bytes()


def _at_once(ask: Callable[[str], Result], names: Sequence[str]) -> list[Result]:
    """Thousands of small requests, each some 20 ms away."""
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        return list(pool.map(ask, names))


def _ledger(output: S3Path) -> Ledger | None:
    try:
        return Ledger.read(output)
    except (FileNotFoundError, ValidationError):
        return None


def _note(output: S3Path) -> Publishing | None:
    try:
        return Publishing.model_validate_json((output / NOTE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError):
        return None


def _write(output: S3Path, note: Publishing) -> None:
    write_text(output / NOTE, note.canonical() + "\n")
