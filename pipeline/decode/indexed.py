"""Films of which the times of all frames are known before any is decoded."""

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction

from pipeline.decode.backend import FilmReader, ShownFrame
from pipeline.decode.grid import NS
from pipeline.decode.media import BadMedia
from pipeline.decode.picture import Picture
from schemas.media import DecodeSpec
from schemas.rejection import Reason


class IndexedFilm(FilmReader):
    """A `FilmReader` over a table of times.

    Args:
        starts_ns: When each frame is shown first, strictly ascending from 0.
        end_ns: When the last one ends.
        spec: For the fps.
    """

    def __init__(self, starts_ns: Sequence[int], end_ns: int, spec: DecodeSpec) -> None:
        self._starts_ns = tuple(starts_ns)
        self._end_ns = end_ns
        self._spec = spec

    @abstractmethod
    def _picture(self, number: int) -> Picture:
        """Decodes frame `number`; asked in ascending order by each `shown_at`."""

    def duration_ns(self) -> int:
        """From the first shown frame to the end of the last one."""
        return self._end_ns

    def frame_times_ns(self) -> tuple[int, ...]:
        """Presentation times of all shown frames, ascending."""
        return self._starts_ns

    def average_rate(self) -> Fraction:
        """Frames over duration, in seconds."""
        return Fraction(len(self._starts_ns) * NS, self._end_ns)

    def shown_at(self, times_ns: Sequence[int]) -> Iterator[ShownFrame]:
        """One frame for each of `times_ns`, which must ascend; a frame shown twice is the same object.

        Raises BadMedia: TRUNCATED when the film ends before its time by more than a grid step.
        """
        last, shown = -1, None
        for t_ns in times_ns:
            self._check_reaches(t_ns)
            number = bisect_right(self._starts_ns, t_ns) - 1
            if shown is None or number != last:
                last, shown = number, self._shown(number)
            yield shown

    def _shown(self, number: int) -> ShownFrame:
        start_ns = self._starts_ns[number]
        end_ns = (*self._starts_ns[number + 1 : number + 2], self._end_ns)[0]
        return ShownFrame(start_ns, end_ns - start_ns, damaged=False, picture=self._picture(number))

    def _check_reaches(self, t_ns: int) -> None:
        if t_ns > self._end_ns + NS / self._spec.fps:
            raise BadMedia(
                Reason.TRUNCATED,
                f"the film ends at {self._end_ns} ns, but a frame at {t_ns} ns was asked: fetch the file again",
            )
