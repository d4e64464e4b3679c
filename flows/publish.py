"""Puts a finished mixture where the recipe wants it: all of it at once, or not at all."""

import filecmp
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from flows.publish_objects import publish_objects, unfinished
from pipeline.shards.contents import names_of
from pipeline.storage.files import attempt_path, check_store, copy, link
from pipeline.storage.places import Place, S3Path
from schemas.base import InputError
from schemas.ledger import LEDGER, Ledger
from schemas.rejection import REJECTIONS


class OutputError(InputError):
    """The output folder holds something that is not a mixture, and will not be overwritten."""


def check_output(output: Place, recipe: str) -> None:
    """Raises OutputError unless the mixture of the recipe of this name may be put at `output`."""
    check_writable(output)
    if not output.exists() or not any(output.iterdir()):
        return
    begun = unfinished(output) if isinstance(output, S3Path) else ""
    if begun == recipe:
        return
    if begun and not (output / LEDGER).is_file():
        raise OutputError(
            f"a build of {begun!r} broke off at {output}: run that again, choose another `output`, or empty it"
        )
    if not (output / LEDGER).is_file():
        raise OutputError(f"{output} is not empty and holds no mixture: choose another `output`, or empty it")
    if (found := _name(output)) not in ("", recipe):
        raise OutputError(
            f"{output} holds the mixture {found!r}, this is {recipe!r}: choose another `output`, or remove it"
        )


def _name(output: Place) -> str:
    """Of the mixture there; empty where its ledger cannot be read: then it is to be made anew."""
    try:
        return Ledger.read(output).recipe
    except ValidationError:
        return ""


def check_writable(path: Place) -> None:
    """Raises OutputError where nothing can be written at `path`: told before the work, not after it.

    An object store is asked by beginning an object that is never finished; its own refusal is an InputError too.
    """
    if isinstance(path, S3Path):
        check_store(path)
        return
    place = path if path.is_dir() else path.parent
    while not place.exists():
        place = place.parent
    if (path.exists() and not path.is_dir()) or not place.is_dir() or not os.access(place, os.W_OK):
        raise OutputError(
            f"{path} cannot be written: {place} is no folder, or not yours to write to; choose another place"
        )


def publish(artefact: Place, extra: Mapping[str, Place], output: Place) -> None:
    """Makes `output` hold the mixture's files in `artefact` and `extra` (name -> file).

    A reader sees the old mixture, for a while none, or the new one: a folder is filled under a name of this
    attempt, then swapped in; for an object store see `publish_objects`. Files are copied, so that damage to the
    output never reaches the workspace it can be made from again; those that the old mixture held already are linked
    from it. An output that is whole already is left alone.
    Raises OutputError rather than replace a folder that holds something else.
    """
    ledger = Ledger.read(artefact)
    wanted = {name: artefact / name for name in (*names_of(ledger), REJECTIONS)} | dict(extra)
    recipe = ledger.recipe
    if isinstance(output, S3Path):
        check_output(output, recipe)
        publish_objects(wanted, recipe, output)
    elif not _complete(wanted, output):
        check_output(output, recipe)
        _swap_in(wanted, output)


def _swap_in(wanted: Mapping[str, Place], output: Path) -> None:
    attempt, old = attempt_path(output), attempt_path(output)
    for name, path in wanted.items():
        if _same(path, output / name):
            link(output / name, attempt / name)  # what has not changed is not touched
        else:
            copy(path, attempt / name)
    if output.exists():
        output.rename(old)
    attempt.rename(output)
    shutil.rmtree(old, ignore_errors=True)


def _complete(wanted: Mapping[str, Place], output: Path) -> bool:
    found = {p.relative_to(output).as_posix() for p in output.rglob("*") if p.is_file()}
    return found == wanted.keys() and all(_same(path, output / name) for name, path in wanted.items())


def _same(path: Place, other: Path) -> bool:
    """What lies in a store is not fetched in order to be compared: it is not the same."""
    return isinstance(path, Path) and other.is_file() and filecmp.cmp(path, other, shallow=False)
