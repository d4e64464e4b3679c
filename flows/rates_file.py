"""Rates: what `mixture calibrate` wrote, a file written by hand, or ready ones that are stated."""

from pathlib import Path

from flows.yaml_file import FileError, load
from schemas.base import InputError
from schemas.capacity import Rates

FOLDER, KIND = "rates", "rates file"


def load_rates(name: str) -> Rates:
    """The rates in the file `name`, JSON or YAML, or the packaged ones of that name.

    Raises InputError, also FileError, for what holds none.
    """
    path = Path(name)
    try:
        if path.suffix == ".json" and path.is_file():
            # Not as YAML, to which 1e-05 is a word.
            return Rates.model_validate_json(path.read_text(encoding="utf-8"))
        return load(name, Rates, FOLDER, KIND)
    except (OSError, ValueError) as error:
        told = str(error) if isinstance(error, FileError) else f"{name}: {str(error).partition(chr(10))[0]}"
        raise InputError(f"{told}\nno rates in it; make them with `mixture calibrate`") from error
