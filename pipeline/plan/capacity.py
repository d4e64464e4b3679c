"""The capacity plan: bytes, core hours, device hours, tokens and money for a workload."""

from math import prod

from schemas.base import InputError
from schemas.capacity import Capacity, Rates
from schemas.recipe import Recipe
from schemas.workload import Work

NPY_BYTES = 128
"""Header of a `.npy` file (NumPy's format 1.0, padded to 64)."""

FEATURE_BYTES = SCALE_BYTES = 2
"""float16."""

RGB_BYTES = 3

JPEG_PERMILLE = {75: 42, 85: 55, 90: 67, 95: 94, 98: 132}
"""Bytes of JPEG pictures at a quality, in thousandths of raw pixels: both encoders' squares of three films
(benchmarks/results/frames_cpu-2core_2026-11-25.md). Other films differ: pictures are as large as they are busy."""


def capacity(work: Work, recipe: Recipe, rates: Rates | None = None) -> Capacity:
    """What it takes to talk about, decode, encode and keep `work`.

    Args:
        work: Of a part, or of all.
        recipe: Its encoders and the frames of a clip count.
        rates: Without these no time or money is told.

    Raises InputError when `rates` lack one of the recipe's encoders, or are those of another.
    """
    found = Capacity(
        samples=work.samples,
        clips=work.clips,
        images=work.images,
        film_s=round(work.film_ns / 10**9),
        feature_bytes={name: _feature_bytes(recipe, name, work) for name in recipe.encoders},
        frame_bytes=_frame_bytes(recipe, work),
        is_frame_bytes_estimated=bool(recipe.shards.frames_for) and recipe.shards.frames_codec == "mjpeg",
        talks=work.talks,
        prompt_tokens=work.prompt_tokens,
        reply_tokens=work.reply_tokens,
    )
    return found if rates is None else _priced(found, recipe, rates)


def _feature_bytes(recipe: Recipe, name: str, work: Work) -> int:
    spec, counted = recipe.encoders[name], ((recipe.decode.frames_per_clip, work.clips), (1, work.images))
    shapes = [(number, spec.feature_shape(frames)) for frames, number in counted]
    values = sum(number * prod(shape) for number, shape in shapes)
    if spec.store.dtype == "float16":
        return FEATURE_BYTES * values + NPY_BYTES * work.samples
    tokens = sum(number * prod(shape[:3]) for number, shape in shapes)
    return values + SCALE_BYTES * tokens + 2 * NPY_BYTES * work.samples


def _frame_bytes(recipe: Recipe, work: Work) -> int:
    """Exact for raw pixels, an estimate for JPEG."""
    shards = recipe.shards
    if not shards.frames_for:
        return 0
    frame = sum(RGB_BYTES * spec.preprocessing.size**2 for spec in recipe.encoders.values())
    clip = recipe.decode.frames_per_clip * frame
    if shards.frames_codec == "mjpeg":
        # Rounded a clip, so that parts sum to their total.
        return work.clips_with_frames * (clip * _jpeg_permille(shards.frames_quality) // 1000)
    return work.clips_with_frames * clip + NPY_BYTES * work.samples * len(recipe.encoders)


def _jpeg_permille(quality: int) -> int:
    """Of the least measured quality that is no lower; of the highest, where there is none."""
    return JPEG_PERMILLE[min((q for q in JPEG_PERMILLE if q >= quality), default=max(JPEG_PERMILLE))]


def _priced(found: Capacity, recipe: Recipe, rates: Rates) -> Capacity:
    check_rates(recipe, rates)
    hours = {
        name: _hours(found.clips * seconds.clip + found.images * seconds.image)
        for name, seconds in rates.encode_device_s.items()
        if name in recipe.encoders
    }
    core_h = _hours(found.clips * rates.decode_core_s.clip + found.images * rates.decode_core_s.image)
    generate_h, prices = _generate_h(found, rates), rates.prices
    device_h = sum(hours.values()) + (generate_h or 0.0)
    return found.model_copy(
        update={
            "rates": rates.machine,
            "decode_core_h": core_h,
            "encode_device_h": hours,
            "generate_device_h": generate_h,
            "currency": prices.currency,
            "cost": core_h * prices.core_hour + device_h * prices.device_hour,
            "cost_a_month": found.stored_bytes / 1e12 * prices.terabyte_month,
        }
    )


def check_rates(recipe: Recipe, rates: Rates) -> None:
    """Raises InputError when `rates` lack one of the recipe's encoders, or are those of another model."""
    mend = "measure them with `mixture calibrate` on this recipe"
    if absent := [name for name in recipe.encoders if name not in rates.encode_device_s]:
        known = ", ".join(rates.encode_device_s)
        raise InputError(f"the rates tell nothing of encoder {', '.join(absent)}, only of {known}: {mend}")
    for name, spec in recipe.encoders.items():
        if (rated := rates.encoders.get(name, spec.speed_class)) != spec.speed_class:
            raise InputError(
                f"the rates of {name} are those of {rated}, the recipe's is {spec.speed_class}: {mend}"
            )
    model = recipe.conversations.model if recipe.conversations.generator == "model" else None
    if model and rates.generator not in ("", model.speed_class):
        raise InputError(
            f"the rates of generation are those of {rates.generator}, the recipe's is {model.speed_class}: {mend}"
        )


def _generate_h(found: Capacity, rates: Rates) -> float | None:
    if not found.talks:
        return 0.0
    if not (seconds := rates.generate_device_s):
        return None
    return _hours(found.prompt_tokens * seconds.prompt_token + found.reply_tokens * seconds.reply_token)


def _hours(seconds: float) -> float:
    return seconds / 3600
