"""What is said to an OpenAI-compatible chat endpoint, and what its answers mean. Pure: nothing is sent here."""

import json
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from pipeline.conversations.engine import Completion, EngineLostError, Prompt, RequestError

TOLD_CHARACTERS = 300
"""Of a server's own words in a message of ours."""

_FINISH: Mapping[str, Literal["stop", "length"]] = {
    "stop": "stop",
    "eos_token": "stop",  # of Text Generation Inference, as is the next
    "stop_sequence": "stop",
    "length": "length",
}
_LOST = {"abort", "error"}
"""Of vLLM, which ends replies so when it shuts down or fails."""
_OUR_ID = re.compile(r"\bmixture\.([a-z0-9_-]{1,80})\.([0-9a-f]{64})\.")


def request_id(prompt: Prompt) -> str:
    """Carries key and address. vLLM makes it the reply's id, so it is new each time that a prompt is sent."""
    return f"mixture.{prompt.key}.{prompt.address}.{secrets.token_hex(4)}"


def body_of(prompt: Prompt, model: str) -> dict[str, Any]:
    """Body of the request, as JSON data."""
    schema = {"name": "answer", "schema": json.loads(prompt.answer_schema), "strict": True}
    return {
        "model": model,
        "messages": [message.model_dump() for message in prompt.messages],
        "seed": prompt.seed,
        "temperature": prompt.temperature,
        "top_p": prompt.top_p,
        "max_tokens": prompt.max_tokens,
        "response_format": {"type": "json_schema", "json_schema": schema},
    }


def completion_of(prompt: Prompt, body: bytes) -> Completion:
    """The reply in the body of a good answer, under the key and the address that the server says it is for.

    A server that does not give our id back is believed: the answer came on the request's own connection.
    Raises RequestError where there is no reply in it, EngineLostError where the server broke it off.
    """
    answer = _object(_json(body))
    choices = answer.get("choices")
    choice = _object(choices[0] if isinstance(choices, list) and choices else None)
    finish, text = str(choice.get("finish_reason")), _object(choice.get("message")).get("content")
    if finish in _LOST:
        raise EngineLostError(f"the server broke a reply off: finish_reason {finish!r}")
    if not isinstance(text, str) or finish not in _FINISH:
        raise RequestError(f"no reply in the server's answer (finish_reason {finish!r}): {excerpt(body)}")
    usage = _object(answer.get("usage"))
    ours = _OUR_ID.search(str(answer.get("id", "")))
    key, address = ours.groups() if ours else (prompt.key, prompt.address)
    return Completion(
        key=key,
        address=address,
        text=text,
        finish=_FINISH[finish],
        prompt_tokens=_count(usage.get("prompt_tokens")),
        cached_tokens=_count(_object(usage.get("prompt_tokens_details")).get("cached_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
    )


def served_models(body: bytes) -> list[str] | None:
    """Names in an answer of `/models`; None if it is no such list."""
    models = _object(_json(body)).get("data")
    return [str(_object(model).get("id", "")) for model in models] if isinstance(models, list) else None


def excerpt(body: bytes) -> str:
    """A server's own words about an error, or the beginning of whatever it sent; bounded, on one line."""
    answer = _object(_json(body))
    error = answer.get("error", answer)
    words = _object(error).get("message") or answer.get("detail") or error
    text = words if isinstance(words, str) else json.dumps(words)
    if not answer:
        text = body[: 4 * TOLD_CHARACTERS].decode("utf-8", "replace")
    text = text[: 4 * TOLD_CHARACTERS]
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= TOLD_CHARACTERS else text[:TOLD_CHARACTERS] + "..."


def retry_after_s(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or a date; None if it says nothing sensible."""
    if not value:
        return None
    if re.fullmatch(r"\d{1,9}", value):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0
