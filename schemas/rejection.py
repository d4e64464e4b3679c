"""`Rejection`: bad data as a value, counted and re-drivable, never an exception that is swallowed."""

from enum import StrEnum

from pydantic import Field

from schemas.base import Key, Record
from schemas.conversation import Effort

REJECTIONS = "rejections.jsonl"
"""Their name in a mixture's folder, and in its shards' in the workspace."""


class Reason(StrEnum):
    """Why a key left the pipeline. The words are the ones `mixture quarantine list` shows."""

    MISSING_FILE = "missing_file"
    EMPTY_FILE = "empty_file"
    BAD_ANNOTATION = "bad_annotation"
    UNSAFE_PATH = "unsafe_path"
    NOT_MEDIA = "not_media"
    NO_VIDEO_STREAM = "no_video_stream"
    TOO_LARGE = "too_large"
    TOO_SHORT = "too_short"
    UNSUPPORTED_CODEC = "unsupported_codec"
    BAD_TIMESTAMPS = "bad_timestamps"
    """Frames without times, or times that run backwards."""
    TRUNCATED = "truncated"
    """The film ends before a time that its header or its annotation promised."""
    DAMAGED = "damaged"
    """A frame that was asked for was decoded from damaged data."""
    CHANGED = "changed"
    """The file is not the one that ingest saw."""
    DECODE_ERROR = "decode_error"
    DECODE_TIMEOUT = "decode_timeout"
    DECODER_DIED = "decoder_died"
    """The decoding process ended: a crash in native code, or its memory limit."""
    NO_USABLE_ANNOTATION = "no_usable_annotation"
    INVALID_CONVERSATION = "invalid_conversation"
    NEAR_COPY = "near_copy"
    """Its talk says nearly what another talk of the mixture says."""
    REQUEST_REFUSED = "request_refused"
    """The engine takes no such request."""
    NON_FINITE_FEATURES = "non_finite_features"
    POISON = "poison"
    """It ended its worker each time it was tried, alone."""


class Rejection(Record):
    """One key that left at one stage, for one reason."""

    key: Key
    stage: str = Field(min_length=1)
    reason: Reason
    detail: str = Field(max_length=2_000)
    """The value seen and the mend, for a person."""
    where: str = ""
    """Where the bytes are: a media path under its source's root, or file and line of an annotation."""
    effort: Effort | None = None
    """What a chat model was asked for in vain; None where none was asked."""
    source: str = ""
