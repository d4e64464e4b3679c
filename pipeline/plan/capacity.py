"""The capacity plan: bytes, core hours, device hours and money for the chosen samples."""

from collections import Counter
from collections.abc import Callable, Iterable
from math import prod

from schemas.base import InputError
from schemas.capacity import Capacity, Rates
from schemas.recipe import Recipe
from schemas.sample import MediaRef, Modality, Sample

NPY_BYTES = 128
"""Header of a `.npy` file (NumPy's format 1.0, padded to 64)."""

FEATURE_BYTES = SCALE_BYTES = 2
"""float16."""

RGB_BYTES = 3


def capacity(
    chosen: Iterable[Sample], recipe: Recipe, clips_of: Callable[[MediaRef], int], rates: Rates | None = None
) -> Capacity:
    """What it takes to decode, encode and keep `chosen`.

    Args:
        chosen: Samples that were probed: their films' durations are known.
        recipe: Its decoding, encoders and frames count.
        clips_of: Clips of a film's span.
        rates: Without these no time or money is told.

    Raises InputError when `rates` lack one of the recipe's encoders.
    """
    counts: Counter[str] = Counter()
    for sample in chosen:
        films = [medium for medium in sample.media if medium.kind == "video"]
        clips, images = sum(map(clips_of, films)), len(sample.media) - len(films)
        with_frames = sample.modality is Modality.VIDEO and sample.category in recipe.shards.frames_for
        counts.update(
            samples=1,
            clips=clips,
            images=images,
            film_ns=sum((m.exclusive_end_ns or m.duration_ns) - m.start_ns for m in films),
            clips_with_frames=with_frames * clips,
        )
    found = Capacity(
        samples=counts["samples"],
        clips=counts["clips"],
        images=counts["images"],
        film_s=round(counts["film_ns"] / 1e9),
        feature_bytes={name: _feature_bytes(recipe, name, counts) for name in recipe.encoders},
        frame_bytes=_frame_bytes(recipe, counts),
    )
    return found if rates is None else _priced(found, recipe, rates)


def _feature_bytes(recipe: Recipe, name: str, counts: Counter[str]) -> int:
    spec, counted = recipe.encoders[name], ((recipe.decode.frames_per_clip, counts["clips"]), (1, counts["images"]))
    shapes = [(number, spec.feature_shape(frames)) for frames, number in counted]
    values = sum(number * prod(shape) for number, shape in shapes)
    if spec.store.dtype == "float16":
        return FEATURE_BYTES * values + NPY_BYTES * counts["samples"]
    tokens = sum(number * prod(shape[:3]) for number, shape in shapes)
    return values + SCALE_BYTES * tokens + 2 * NPY_BYTES * counts["samples"]


def _frame_bytes(recipe: Recipe, counts: Counter[str]) -> int:
    if not recipe.shards.frames_for:
        return 0
    frame = sum(RGB_BYTES * spec.preprocessing.size**2 for spec in recipe.encoders.values())
    frames = counts["clips_with_frames"] * recipe.decode.frames_per_clip
    return frames * frame + NPY_BYTES * counts["samples"] * len(recipe.encoders)


def _priced(found: Capacity, recipe: Recipe, rates: Rates) -> Capacity:
    if absent := [name for name in recipe.encoders if name not in rates.encode_device_s]:
        raise InputError(
            f"the rates tell nothing of encoder {', '.join(absent)}, only of {', '.join(rates.encode_device_s)}: "
            "measure them with `mixture calibrate` on this recipe"
        )
    hours = {
        name: (found.clips * seconds.clip + found.images * seconds.image) / 3600
        for name, seconds in rates.encode_device_s.items()
        if name in recipe.encoders
    }
    core_h = (found.clips * rates.decode_core_s.clip + found.images * rates.decode_core_s.image) / 3600
    prices, kept = rates.prices, sum(found.feature_bytes.values()) + found.frame_bytes
    return found.model_copy(
        update={
            "decode_core_h": core_h,
            "encode_device_h": hours,
            "cost": core_h * prices.core_hour + sum(hours.values()) * prices.device_hour,
            "cost_a_month": kept / 1e12 * prices.terabyte_month,
        }
    )
