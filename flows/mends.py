"""What mends a rejection, by its reason. The table in docs/operations.md has the same words."""

from collections.abc import Mapping

from schemas.rejection import Reason

MENDS: Mapping[Reason, str] = {
    Reason.MISSING_FILE: "put it there, or mend the path in the annotation",
    Reason.EMPTY_FILE: "fetch it again",
    Reason.BAD_ANNOTATION: "mend the annotation, or drop the record",
    Reason.UNSAFE_PATH: "put the file itself under the media root, and name it there",
    Reason.NOT_MEDIA: "fetch it again",
    Reason.NO_VIDEO_STREAM: "drop the record",
    Reason.UNSUPPORTED_CODEC: "transcode it",
    Reason.BAD_TIMESTAMPS: "`decode.on_damage: salvage` for MPEG-TS and MPEG-PS; else remux or transcode it",
    Reason.TRUNCATED: "fetch it again",
    Reason.DAMAGED: "fetch it again, or keep the sound clips: `decode.on_damage: drop_frames`",
    Reason.CHANGED: "requeue it: ingest looks at it again",
    Reason.TOO_LARGE: "raise the bound, or make it smaller",
    Reason.TOO_SHORT: "mend the span, or drop the record",
    Reason.DECODE_ERROR: "fetch it again; else transcode it",
    Reason.DECODE_TIMEOUT: "raise `decode.deadline_s`; look at the file; if the machine was busy, requeue it",
    Reason.DECODER_DIED: "raise `decode.memory_mb`; drop the record",
    Reason.NO_USABLE_ANNOTATION: "give it an annotation of its modality, or drop the record",
    Reason.INVALID_CONVERSATION: "raise `conversations.tries` where a model wrote it; else mend the annotation",
    Reason.NEAR_COPY: "none is needed: a reserve takes its place",
    Reason.REQUEST_REFUSED: "raise the model's `max_model_len`, or shorten the annotation",
    Reason.NON_FINITE_FEATURES: "look at its frames; another `precision`, `layer` or weights",
    Reason.POISON: "mend its media, or drop the record",
}
