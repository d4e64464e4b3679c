"""Puts a finished mixture where the recipe wants it: all of it at once, or not at all."""

import filecmp
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from pipeline.runtime.workspace import MANIFEST
from pipeline.storage.files import attempt_path, copy, link
from schemas.base import InputError
from schemas.ledger import LEDGER, Ledger


class OutputError(InputError):
    """The output folder holds something that is not a mixture, and will not be overwritten."""


def check_output(output: Path, recipe: str) -> None:
    """Raises OutputError unless the mixture of the recipe of this name may be put at `output`."""
    check_writable(output)
    if not output.exists() or not any(output.iterdir()):
        return
    if not (output / LEDGER).is_file():
        raise OutputError(f"{output} is not empty and holds no mixture: choose another `output`, or empty it")
    if (found := _name(output)) not in ("", recipe):
        raise OutputError(
            f"{output} holds the mixture {found!r}, this is {recipe!r}: choose another `output`, or remove it"
        )


def _name(output: Path) -> str:
    """Of the mixture there; empty where its ledger cannot be read: then it is to be made anew."""
    try:
        return Ledger.read(output).recipe
    except ValueError:
        return ""


def check_writable(path: Path) -> None:
    """Raises OutputError where nothing can be written at `path`: told before the work, not after it."""
    place = path if path.is_dir() else path.parent
    while not place.exists():
        place = place.parent
    if (path.exists() and not path.is_dir()) or not place.is_dir() or not os.access(place, os.W_OK):
        raise OutputError(
            f"{path} cannot be written: {place} is no folder, or not yours to write to; choose another place"
        )


def publish(artefact: Path, extra: Mapping[str, Path], output: Path) -> None:
    """Makes `output` hold the artefact's files (the manifest left out) and `extra` (name -> file).

    A reader sees the old mixture, for an instant none, or the new one: the folder is filled under a
    name of this attempt, then swapped in. Files are copied, so that damage to the output never reaches the
    workspace it can be made from again; those that the old mixture held already are linked from it. An output
    that is whole already is left alone.
    Raises OutputError rather than replace a folder that holds something else.
    """
    found = {p.relative_to(artefact).as_posix(): p for p in artefact.rglob("*") if p.is_file()}
    wanted = {name: path for name, path in found.items() if name != MANIFEST} | dict(extra)
    if _complete(wanted, output):
        return
    check_output(output, Ledger.read(artefact).recipe)
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


def _complete(wanted: Mapping[str, Path], output: Path) -> bool:
    found = {p.relative_to(output).as_posix() for p in output.rglob("*") if p.is_file()}
    return found == wanted.keys() and all(_same(path, output / name) for name, path in wanted.items())


def _same(path: Path, other: Path) -> bool:
    return other.is_file() and filecmp.cmp(path, other, shallow=False)
