"""Puts a finished mixture where the recipe wants it: all of it at once, or not at all."""

import filecmp
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from pipeline.runtime.files import attempt_path
from pipeline.runtime.workspace import MANIFEST
from schemas.base import InputError
from schemas.ledger import LEDGER


class OutputError(InputError):
    """The output folder holds something that is not a mixture, and will not be overwritten."""


def publish(artefact: Path, extra: Mapping[str, Path], output: Path) -> None:
    """Makes `output` hold the artefact's files (the manifest left out) and `extra` (name -> file).

    A reader sees the old mixture, for an instant none, or the new one: the folder is filled under a
    name of this attempt, then swapped in. Files are copied, not linked, so that damage to the output
    never reaches the workspace it can be made from again. An output that is whole already is left alone.
    Raises OutputError rather than replace a folder that holds no ledger.
    """
    found = {p.relative_to(artefact).as_posix(): p for p in artefact.rglob("*") if p.is_file()}
    wanted = {name: path for name, path in found.items() if name != MANIFEST} | dict(extra)
    if _complete(wanted, output):
        return
    if output.exists() and any(output.iterdir()) and not (output / LEDGER).is_file():
        raise OutputError(f"{output} is not empty and holds no mixture: choose another `output`, or empty it")
    attempt, old = attempt_path(output), attempt_path(output)
    for name, path in wanted.items():
        _copy(path, attempt / name)
    if output.exists():
        output.rename(old)
    attempt.rename(output)
    shutil.rmtree(old, ignore_errors=True)


def _complete(wanted: Mapping[str, Path], output: Path) -> bool:
    sizes = {p.relative_to(output).as_posix(): p.stat().st_size for p in output.rglob("*") if p.is_file()}
    if sizes != {name: path.stat().st_size for name, path in wanted.items()}:
        return False
    return all(filecmp.cmp(output / name, path, shallow=False) for name, path in wanted.items())


def _copy(source: Path, target: Path) -> None:
    """Copies inside the kernel; file systems with shared extents (XFS, Btrfs) copy nothing at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as reader, target.open("wb") as writer:
        while os.copy_file_range(reader.fileno(), writer.fileno(), 2**30):
            pass
        os.fsync(writer.fileno())
