"""Which frames Apollo's released code takes from a film, by their numbers.

The rule of its `calculate_sample_indices`, written anew with exact numbers, and equal to it wherever
its clips are whole. It takes the frames of a film as equally spaced:

- ceil(duration / clip duration x ratio) clips, each of every `step`-th frame, `step` being rounded
  down: 12 at 24 and at 25 frames a second, 14 at 29.97. So a clip at 25 is one of 2.083 frames a second.
- Equal partitions of the film that are longer than a clip have it in their centre. Else clips follow
  one another from the first frame, at equal distances rounded down; neighbours may share frames.
- In a film with fewer frames than a clip reaches over, the last frame repeats. In one of at most half
  the rate asked for, every frame does.

Its clips are whole at its settings, 4 frames in 2 s. With longer clips of slow films it takes too many
frames (20 in a clip of 16 at half a frame a second); here the clip ends with the last it should have.
"""

from fractions import Fraction
from math import ceil, floor


def released_indices(
    fps: Fraction, total_frames: int, clip_duration_s: Fraction, frames_per_clip: int, ratio: Fraction = Fraction(1)
) -> tuple[tuple[int, ...], ...]:
    """For each clip the numbers of its frames: `frames_per_clip` ascending ones in [0, total_frames).

    Args:
        fps: Average rate of the film, frames a second.
        total_frames: Of the film.
        clip_duration_s: What a clip stands for, seconds.
        frames_per_clip: Taken from each.
        ratio: Share of the clips that are taken, in (0, 1].

    Raises ValueError: no frames, a ratio out of bounds, or a film so slow that no frame falls to a clip.
    """
    length, offsets = _clip_of(fps, clip_duration_s, frames_per_clip)
    if total_frames < 1 or not 0 < ratio <= 1:
        raise ValueError(f"{total_frames} frames, ratio {ratio}: give at least 1 frame and a ratio in (0, 1]")
    count = ceil(total_frames / fps / clip_duration_s * ratio)
    partition = total_frames // count
    first, stride = 0, max(0, total_frames - length) // max(1, count - 1)
    # Frames that repeat are never centred.
    if partition > length and length >= frames_per_clip:
        first, stride = (partition - length) // 2, partition
    last = min(length, total_frames) - 1
    return tuple(
        tuple(first + number * stride + min(offset, last) for offset in offsets) for number in range(count)
    )


def _clip_of(fps: Fraction, clip_duration_s: Fraction, frames_per_clip: int) -> tuple[int, list[int]]:
    """How many frames of the film a clip reaches over, and which of them it takes, counted from its first."""
    step = fps * clip_duration_s / frames_per_clip
    if step > Fraction(1, 2):
        whole = max(1, floor(step))
        return frames_per_clip * whole, [k * whole for k in range(frames_per_clip)]
    length = floor(fps * clip_duration_s)
    if length < 1:  # the released code asks for frame -1 here
        raise ValueError(
            f"{float(fps):g} frames a second are less than one in a clip of {float(clip_duration_s):g} s: "
            "sample it by fps or uniform"
        )
    return length, [k // ceil(1 / step) for k in range(frames_per_clip)]
