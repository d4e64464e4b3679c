"""What a sample costs to decode and encode, beside the others: so that work is dealt out by cost, not by count.

A pure function of what ingest probed, in microseconds of the machine of the stated results. Only how samples
compare matters, and a wrong cost lengthens the end of a pass, but changes no byte.
"""

from math import ceil, floor

from schemas.media import DecodeSpec
from schemas.sample import MediaRef, Sample

COST_VERSION = 1
"""Raise it when a sample would cost otherwise: parts would be cut otherwise."""

# benchmarks/results/decode_cpu-2core_2026-11-25.md: 716 ms for 10 s of H.264 at 1920x1080 and 25 frames a second,
# and 307 ms at 1280x720: 1.4 and 1.3 ns a pixel. 123 ms for 20 JPEG pictures of 1920x1080: 3 ns.
FILM_PIXEL_PS = 1_400
PICTURE_PIXEL_PS = 3_000
FILM_FPS = 30
"""Of films: what ingest probes does not tell it."""
LEAD_S = 5
"""Between a clip and the keyframe before it, from which it is decoded: stated, half of a usual ten."""

# benchmarks/results/encode_cpu-2core_2026-11-25.md: 2.6 and 2.3 TFLOP a clip of four frames, a quarter of it a
# picture. The rate is stated, not measured: 100 TFLOP a second of a GPU.
CLIP_US = 25_000
PICTURE_US = CLIP_US // 4

UNPROBED_PIXELS = 1280 * 720


def cost_of(sample: Sample, spec: DecodeSpec, encoders: int) -> int:
    """Microseconds to decode the sample and have so many encoders see it; 0 for a text."""
    return sum(_medium(medium, spec, encoders) for medium in sample.media)


def _medium(medium: MediaRef, spec: DecodeSpec, encoders: int) -> int:
    pixels = medium.width * medium.height or UNPROBED_PIXELS
    if medium.kind == "image":
        return pixels * PICTURE_PIXEL_PS // 10**6 + encoders * PICTURE_US
    clip_s = spec.frames_per_clip / spec.fps
    clips = min(spec.max_clips, ceil(medium.span_ns / (clip_s * 10**9)))
    # A film that is longer than its clips is decoded around them.
    around_ns = floor(clips * (clip_s + LEAD_S) * 10**9)
    frames = min(medium.span_ns, around_ns) * FILM_FPS // 10**9
    return frames * pixels * FILM_PIXEL_PS // 10**6 + clips * encoders * CLIP_US
