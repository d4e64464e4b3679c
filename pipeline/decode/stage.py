"""`Decode`: the stage, and the process it keeps for strangers' files."""

from collections.abc import Mapping, Sequence

from pipeline.decode.worker import STAGE, WITHOUT_FRAMES, rejection
from pipeline.runtime.contract import Stage
from pipeline.runtime.isolated import ChildDied, DeadlineExceeded, Isolated
from pipeline.storage.nearby import nearby
from schemas.arrays import Frames
from schemas.media import DecodeSpec, Preprocessing
from schemas.recipe import ShardsSpec
from schemas.rejection import Reason, Rejection
from schemas.sample import Sample


class Decode(Stage[Sample, Frames]):
    """Samples to `Frames`: padded, resized RGB pixels on the time grid of `pipeline.decode.grid`.

    A film gives clips of `frames_per_clip` frames; each picture one clip of one frame; a text sample
    no clip, and arrays `[0, 0, size, size, 3]`. Bad media are rejected: MISSING_FILE, EMPTY_FILE,
    UNSAFE_PATH, CHANGED, NOT_MEDIA, NO_VIDEO_STREAM, UNSUPPORTED_CODEC, TOO_LARGE, TOO_SHORT,
    BAD_TIMESTAMPS, TRUNCATED, DAMAGED, DECODE_ERROR, DECODE_TIMEOUT, DECODER_DIED.

    Args:
        spec: The grid, and what one sample may cost.
        preprocessing: By encoder name; one array each.
        media_roots: By source name, the folder its media paths are relative to.
        shards: Which samples' frames the shards carry, and in which form.
        check_digests: Whether media are read whole first, and refused unless they have the digests of their ingest;
            otherwise their size must do.
    """

    name, version = STAGE, 2

    def __init__(
        self,
        spec: DecodeSpec,
        preprocessing: Mapping[str, Preprocessing],
        media_roots: Mapping[str, str],
        shards: ShardsSpec = WITHOUT_FRAMES,
        check_digests: bool = False,
    ) -> None:
        self._spec = spec
        self._preprocessing = dict(preprocessing)
        self._media_roots = dict(media_roots)
        self._shards = shards
        self._check_digests = check_digests
        self._child = Isolated(
            "pipeline.decode.worker:decode_sample", deadline_s=spec.deadline_s, memory_mb=spec.memory_mb
        )

    def setup(self) -> None:
        """Starts the decoding process."""
        self._child.start()

    def process(self, batch: Sequence[Sample]) -> list[Frames | Rejection]:
        """Frames of each sample, or why there are none. Raises ValueError for a source without a root."""
        return [self._decode(sample) for sample in batch]

    def close(self) -> None:
        """Ends the decoding process."""
        self._child.close()

    def _decode(self, sample: Sample) -> Frames | Rejection:
        root = self._media_roots.get(sample.source, "")
        if sample.media and not root:
            raise ValueError(f"source {sample.source!r} has no media root: {sorted(self._media_roots)} have one")
        where = sample.media[0].path if sample.media else ""
        try:
            with nearby(root, [medium.path for medium in sample.media]) as here:
                outcome: Frames | Rejection = self._child.call(
                    sample, here, self._spec, self._preprocessing, self._shards, self._check_digests
                )
        except DeadlineExceeded as error:
            return rejection(sample, Reason.DECODE_TIMEOUT, f"{error}: raise decode.deadline_s", where)
        except ChildDied as error:
            return rejection(sample, Reason.DECODER_DIED, f"{error.how}; or raise decode.memory_mb", where)
        return outcome
