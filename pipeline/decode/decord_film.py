"""`DecordFilm`: decord's answer to the question that `Film` answers, as a second opinion.

decord 0.6 carries an FFmpeg of its own (4.x, of 2021): a fault of ours, or of a newer libav, shows where they
differ. It is no second default. Measured against plain PyAV, frame by frame:

- `get_batch`, indices and `skip_frames` bring wrong frames where GOPs are open (as x265 and MPEG-4 make them),
  and count the frames that an edit list hides. `next` from the start is right, so every frame up to the last
  one asked for is decoded, and converted to RGB at full size.
- H.264 in MPEG-TS comes garbled, and AVI with times of -9e17 s: only MP4 and Matroska are given to it.
- The pixels of turned films are mislaid: those are refused.
- Times are float32: behind 1024 s, ticks of 1/15360 s are no longer told apart.
- Of damage it tells little: it fails, repeats a neighbour (refused here), or shows what libav concealed, without
  a word. `ShownFrame.damaged` is always False.

It may hang, as any decoder may, so it belongs in a killable process.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from io import BufferedReader
from itertools import pairwise
from math import floor
from typing import Any

from pipeline.decode.container import open_container, video_stream
from pipeline.decode.grid import NS
from pipeline.decode.indexed import IndexedFilm
from pipeline.decode.media import BadMedia, check_size
from pipeline.decode.picture import StillPicture
from schemas.media import DecodeSpec
from schemas.rejection import Reason

FORMATS = ("matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2")
"""As libav names them."""

_NO_REPEATS = 1e-9
"""Share of frames that may be a neighbour's copy; decord takes 0 for no limit."""
_CHANNELS = 3


class DecordFilm(IndexedFilm):
    """One open film, read by decord; a `FilmReader`.

    Args:
        file: From `open_plain`; it stays the caller's to close, after this film.
        spec: The bounds, and the fps.

    Raises BadMedia (as `open_container`; UNSUPPORTED_CODEC, TOO_LARGE, BAD_TIMESTAMPS, DAMAGED,
    DECODE_ERROR) here and in its methods, and TRUNCATED in `shown_at`.
    """

    def __init__(self, file: BufferedReader, spec: DecodeSpec) -> None:
        tick = self._check(file, spec)
        self._next = 0  # number of the frame that decord will bring
        import decord

        with _decord_errors("cannot open the film"):
            # By its descriptor: the name stays unseen, and a file object would be read into memory whole.
            self._reader: Any = decord.VideoReader(
                f"/proc/self/fd/{file.fileno()}", ctx=decord.cpu(0), num_threads=1, fault_tol=_NO_REPEATS
            )
            spans = self._reader.get_frame_timestamp(range(len(self._reader)))
        ticks = [round(start / float(tick)) for start in spans[:, 0].tolist()]
        shown = [start for start in ticks if start >= 0]  # `next` leaves out what an edit list hides
        if not shown or any(later <= start for start, later in pairwise(shown)):
            raise BadMedia(Reason.BAD_TIMESTAMPS, "decord tells no ascending times: set decode.backend to pyav")
        end = round(float(spans[-1, 1]) / float(tick))
        to_ns = tick * NS
        super().__init__([floor((s - shown[0]) * to_ns) for s in shown], floor((end - shown[0]) * to_ns), spec)

    def _check(self, file: BufferedReader, spec: DecodeSpec) -> Fraction:
        """What decord would not ask; the length of a tick, seconds. libav's lists of formats and protocols hold."""
        with open_container(file) as container:
            stream, name = video_stream(container), container.format.name
            if name not in FORMATS or len(container.streams.video) > 1:
                raise BadMedia(
                    Reason.UNSUPPORTED_CODEC,
                    f"decord is trusted with one video stream in MP4 or Matroska, not with "
                    f"{len(container.streams.video)} in {name}: set decode.backend to pyav",
                )
            check_size(stream.width, stream.height, spec)
            self._pixel_aspect = stream.sample_aspect_ratio or Fraction(1)
            return stream.time_base or Fraction(1, NS)

    def close(self) -> None:
        """Frees the decoder."""
        self._reader = None

    def average_rate(self) -> Fraction:
        """As the container tells it."""
        return Fraction(self._reader.get_avg_fps()).limit_denominator(100_000)

    def displayed_size(self) -> tuple[int, int]:
        """Width and height of the first frame, with square pixels."""
        return self._picture(0).displayed_size

    def _picture(self, number: int) -> StillPicture:
        from PIL import Image

        with _decord_errors(f"cannot decode frame {number}"):
            if number < self._next:
                self._reader.seek(0)
                self._next = 0
            for _ in range(number - self._next):
                self._reader.next()
            pixels = self._reader.next().asnumpy()
        self._next = number + 1
        if pixels.shape[2] != _CHANNELS:
            raise BadMedia(Reason.UNSUPPORTED_CODEC, "decord mislays turned films: set decode.backend to pyav")
        return StillPicture(Image.fromarray(pixels), self._pixel_aspect)


@contextmanager
def _decord_errors(doing: str) -> Iterator[None]:
    """Turns decord's errors into BadMedia, its stack trace left out."""
    from decord import DECORDError, DECORDLimitReachedError

    try:
        yield
    except DECORDLimitReachedError as error:
        raise BadMedia(Reason.DAMAGED, f"{doing}: decord would repeat neighbours of damaged frames") from error
    except (DECORDError, RuntimeError, AssertionError, StopIteration) as error:  # it asserts that there are frames
        words = str(error).partition("Stack trace")[0].strip()
        raise BadMedia(Reason.DECODE_ERROR, f"{doing}: {words or type(error).__name__}"[:400]) from error
