"""`Probe`: fills in what a sample's media files tell of themselves."""

from collections.abc import Mapping, Sequence

from pipeline.runtime.contract import Stage
from pipeline.runtime.isolated import ChildDied, DeadlineExceeded, Isolated
from pipeline.storage.nearby import nearby
from schemas.media import DecodeSpec
from schemas.rejection import Reason, Rejection
from schemas.sample import MediaRef, Sample

CLAMPED_NS = 100_000_000
"""A span may end this much behind its film: annotators round times, to a tenth of a second as a rule."""


class Probe(Stage[Sample, Sample]):
    """Samples with sha256, size, displayed width and height, and duration of every medium.

    A span that ends behind its film by at most `CLAMPED_NS` is cut to the film; by more, it is
    rejected with BAD_ANNOTATION. Other reasons: MISSING_FILE, EMPTY_FILE, UNSAFE_PATH, NOT_MEDIA,
    NO_VIDEO_STREAM, UNSUPPORTED_CODEC, TOO_LARGE, TOO_SHORT, BAD_TIMESTAMPS, DECODE_ERROR,
    DECODE_TIMEOUT, DECODER_DIED.

    Args:
        prober: Dotted name of `(root, path, kind, DecodeSpec) -> fields | (Reason, detail)`, which
            runs in a process of its own; the flow hands in `pipeline.decode.worker:probe_medium`.
        spec: Bounds of a medium, and what looking at it may cost.
        media_roots: By source name, the folder its media paths are relative to.
    """

    name, version = "ingest", 2

    def __init__(self, prober: str, spec: DecodeSpec, media_roots: Mapping[str, str]) -> None:
        self._spec = spec
        self._media_roots = dict(media_roots)
        self._child = Isolated(prober, deadline_s=spec.deadline_s, memory_mb=spec.memory_mb)

    def setup(self) -> None:
        """Starts the probing process."""
        self._child.start()

    def process(self, batch: Sequence[Sample]) -> list[Sample | Rejection]:
        """Each sample probed, or why it is not. Raises ValueError for a source without a root."""
        return [self._probe(sample) for sample in batch]

    def close(self) -> None:
        """Ends the probing process."""
        self._child.close()

    def _probe(self, sample: Sample) -> Sample | Rejection:
        root = self._media_roots.get(sample.source, "")
        if sample.media and not root:
            raise ValueError(f"source {sample.source!r} has no media root: {sorted(self._media_roots)} have one")
        media = []
        for medium in sample.media:
            probed = _within_film(self._look(root, medium))
            if not isinstance(probed, MediaRef):
                reason, detail = probed
                return Rejection(
                    key=sample.key, stage=self.name, reason=reason, detail=detail[:2000],
                    where=medium.path, source=sample.source,
                )  # fmt: skip
            media.append(probed)
        return sample.model_copy(update={"media": tuple(media)})

    def _look(self, root: str, medium: MediaRef) -> MediaRef | tuple[Reason, str]:
        try:
            with nearby(root, [medium.path]) as here:
                answer: dict[str, int | str] | tuple[Reason, str] = self._child.call(
                    here, medium.path, medium.kind, self._spec
                )
        except DeadlineExceeded as error:
            return Reason.DECODE_TIMEOUT, f"{error}: raise decode.deadline_s"
        except ChildDied as error:
            return Reason.DECODER_DIED, f"{error.how}; or raise decode.memory_mb"
        return answer if isinstance(answer, tuple) else MediaRef.model_validate({**medium.model_dump(), **answer})


def _within_film(medium: MediaRef | tuple[Reason, str]) -> MediaRef | tuple[Reason, str]:
    """The medium with its span inside its film, or why it cannot be."""
    if not isinstance(medium, MediaRef) or medium.kind == "image":
        return medium
    duration_ns = medium.duration_ns
    if medium.start_ns >= duration_ns or medium.exclusive_end_ns > duration_ns + CLAMPED_NS:
        return Reason.BAD_ANNOTATION, (
            f"the span [{medium.start_ns}, {medium.exclusive_end_ns or duration_ns}) ns leaves the film, "
            f"which lasts {duration_ns} ns: mend the annotation"
        )
    return medium.model_copy(update={"exclusive_end_ns": min(medium.exclusive_end_ns, duration_ns)})
