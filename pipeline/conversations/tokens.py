"""LLM tokens of a talk, by the tokenizer that the recipe names."""

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipeline.storage.places import place
from schemas.base import InputError, Sha256
from schemas.conversation import Turn

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def tokenizer_sha256(path: str) -> Sha256 | str:
    """Of the file at `path`; empty for an empty path. Raises InputError where there is no tokenizer."""
    if not path:
        return ""
    load_tokenizer(path)
    return hashlib.sha256(place(path).read_bytes()).hexdigest()


def load_tokenizer(path: str) -> "Tokenizer":
    """The tokenizer in `path`, a `tokenizer.json` as Hugging Face's tokenizers write it. Raises InputError."""
    from tokenizers import Tokenizer

    if not place(path).is_file():
        raise InputError(f"conversations.tokenizer: no file {path!r}; give the path of a tokenizer.json")
    try:
        return Tokenizer.from_buffer(place(path).read_bytes())
    except Exception as error:  # noqa: BLE001 - the package raises nothing finer
        raise InputError(f"conversations.tokenizer: {path} is no tokenizer.json: {error}") from None


def count_tokens(tokenizer: "Tokenizer", turns: Iterable[Turn]) -> int:
    """Tokens of all turns, without the special tokens and the chat template that a trainer adds."""
    return sum(len(tokenizer.encode(turn.content, add_special_tokens=False).ids) for turn in turns)
