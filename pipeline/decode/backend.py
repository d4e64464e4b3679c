"""What a decoding backend is: a film opened for reading, and the frames shown at times."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from io import BufferedReader
from types import TracebackType
from typing import Self

from pipeline.decode.picture import Picture
from schemas.media import DecodeSpec


@dataclass(frozen=True)
class ShownFrame:
    """The frame that a viewer sees at a time."""

    pts_ns: int
    """From the first shown frame, floored to a nanosecond."""
    duration_ns: int
    """0 where the container does not tell."""
    damaged: bool
    """It was decoded from damaged data, or stands in for a frame that was lost: not to be trusted."""
    picture: Picture
    """Its pixels; nothing is computed before they are asked for."""


class FilmReader(ABC):
    """One open film. Every method raises BadMedia for a film that it cannot serve."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def displayed_size(self) -> tuple[int, int]:
        """Width and height as displayed: turned, with square pixels."""

    @abstractmethod
    def duration_ns(self) -> int:
        """From the first shown frame to the end of the last one."""

    @abstractmethod
    def frame_times_ns(self) -> tuple[int, ...]:
        """Presentation times of all shown frames, ascending."""

    @abstractmethod
    def average_rate(self) -> Fraction:
        """Frames a second, as the container tells it, else frames over duration."""

    @abstractmethod
    def shown_at(self, times_ns: Sequence[int]) -> Iterator[ShownFrame]:
        """One frame for each of `times_ns`, which must ascend; a frame shown twice is the same object."""

    @abstractmethod
    def close(self) -> None:
        """Frees the decoder."""


def open_film(file: BufferedReader, spec: DecodeSpec) -> FilmReader:
    """Opens `file` with the backend that `spec` names; an animated WebP, which libav lacks, with Pillow."""
    from pipeline.decode.animation import AnimationFilm, is_animation
    from pipeline.decode.decord_film import DecordFilm
    from pipeline.decode.film import Film

    if is_animation(file):
        return AnimationFilm(file, spec)
    return DecordFilm(file, spec) if spec.backend == "decord" else Film(file, spec)
