"""`--shares`: the shares of a packaged mixture by its name, or as they are written."""

from collections.abc import Mapping
from fractions import Fraction

from pydantic import ValidationError

from flows.yaml_file import FileError, Mistake, packaged, parse
from schemas.sample import Modality
from schemas.shares import SharesRow, SharesTable

FOLDER = "mixtures"


def named_shares() -> dict[str, SharesRow]:
    """Every packaged row by its name; the tables lie in `flows/mixtures`."""
    tables = (parse(text, name, SharesTable, "table of shares") for name, text in sorted(packaged(FOLDER).items()))
    return {name: row for table in tables for name, row in table.rows.items()}


def find_shares(text: str) -> Mapping[Modality, Fraction]:
    """Percent by modality of `t15-v40`, or of `15/25/20/40`: text, image, multi-image, video. Raises FileError."""
    if "/" not in text:
        ready = named_shares()
        if text in ready:
            return ready[text].shares
        raise _mistake(
            f"no mixture is named {text!r}; give text/image/multi-image/video, or one of {', '.join(ready)}"
        )
    try:
        return SharesRow.model_validate({"shares": text}).shares
    except ValidationError as error:
        message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise _mistake(f"{text!r}: {message}") from None


def _mistake(message: str) -> FileError:
    return FileError("parameters", [Mistake(0, "--shares", message)])
