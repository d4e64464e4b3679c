"""LLM tokens counted anew, by the tokenizer that the ledger names and that lies beside it."""

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache

from pipeline.audit.findings import Code
from pipeline.storage.places import Place
from schemas.ledger import TOKENIZER, Ledger

MAX_BYTES = 256 << 20
"""Of that file; the largest in use have 33 MB."""

TokenCounter = Callable[[Sequence[str]], int]
"""Tokens of all these texts, template and special tokens left out. Raises TokenError."""


class TokenError(ValueError):
    """A text that the tokenizer cannot take apart."""


def load_counter(folder: Place, ledger: Ledger) -> TokenCounter | tuple[Code, str]:
    """Counts by the tokenizer of the ledger, which must name one; or why it cannot."""
    path = folder / TOKENIZER
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            message = f"the ledger counts tokens by a {TOKENIZER}, and none of at most {MAX_BYTES} bytes is here"
            return Code.TOKENS_UNPROVEN, message
        data = path.read_bytes()
    except OSError as error:
        return Code.TOKENS_UNPROVEN, f"{TOKENIZER} cannot be read: {error}"
    if (found := hashlib.sha256(data).hexdigest()) != ledger.tokenizer_sha256:
        return Code.TOKENIZER_CHANGED, f"{TOKENIZER} has sha256 {found}, the ledger names {ledger.tokenizer_sha256}"
    return _parsed(data)


@lru_cache(maxsize=1)
def _parsed(data: bytes) -> TokenCounter | tuple[Code, str]:
    """Once a process, as a large vocabulary takes a second; by content, as a file may change between two audits."""
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError:
        return Code.TOKENS_UNPROVEN, "tokens cannot be counted without a package: pip install tokenizers"
    try:
        tokenizer = Tokenizer.from_buffer(data)
    except ValueError as error:
        return Code.TOKENS_UNPROVEN, f"{TOKENIZER} is none: {error}"

    def count(texts: Sequence[str]) -> int:
        try:
            return sum(len(tokenizer.encode(text, add_special_tokens=False)) for text in texts)
        except Exception as error:  # the package raises no other class
            raise TokenError(f"{TOKENIZER} cannot count its tokens: {error}") from error

    return count
