"""From chosen samples, or from a statement, to a workload: the same sums, part by part."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from math import floor

from pipeline.plan.apportion import apportion
from schemas.plan import Stratum
from schemas.recipe import Recipe
from schemas.sample import Modality, Sample
from schemas.workload import PartWork, StatedPart, StatedWorkload, Workload

ClipsOf = Callable[[int, int | None], int]
"""Clips of a span of so many nanoseconds; the second argument, where given, is the most a film may have."""

TalksOf = Callable[[Sample], Mapping[str, int]]
"""`talks`, `prompt_tokens` and `reply_tokens` of a sample; none where no model is asked about it."""


def counted(
    chosen: Iterable[Sample], recipe: Recipe, clips_of: ClipsOf, talks_of: TalksOf = lambda _: {}
) -> Workload:
    """The workload of samples that were probed, a part a stratum."""
    parts: dict[str, Counter[str]] = {}
    for sample in chosen:
        stratum = Stratum(split=sample.split, modality=sample.modality, source=sample.source)
        part = parts.setdefault(stratum.label, Counter())
        part.update(work_of(sample, recipe, clips_of))
        part.update(talks_of(sample))
    return Workload(
        origin="counted",
        parts=tuple(PartWork.model_validate({"part": label, **parts[label]}) for label in sorted(parts)),
    )


def work_of(sample: Sample, recipe: Recipe, clips_of: ClipsOf) -> Mapping[str, int]:
    """The fields of a `Work` of one sample, but those of its talk."""
    spans = [medium.span_ns for medium in sample.media if medium.kind == "video"]
    clips = sum(clips_of(span, None) for span in spans)
    with_frames = recipe.shards.carries_frames(sample.modality, sample.category)
    return {
        "samples": 1,
        "clips": clips,
        "images": len(sample.media) - len(spans),
        "film_ns": sum(spans),
        "clips_with_frames": with_frames * clips,
    }


def stated(statement: StatedWorkload, clips_of: ClipsOf) -> Workload:
    """The workload of a statement. Shares of samples are whole samples, by the largest-remainder rule."""
    return Workload(origin="stated", parts=tuple(_stated_part(part, clips_of) for part in statement.parts))


def _stated_part(part: StatedPart, clips_of: ClipsOf) -> PartWork:
    samples = part.samples.value
    cap = part.max_clips.value if part.max_clips else None
    films = _films(part, samples)
    clips = sum(number * clips_of(ns, cap) for ns, number in films.items())
    talks = part.talks
    written = _rounded(samples * talks.share.value) if talks else 0
    return PartWork(
        part=part.part,
        samples=samples,
        clips=clips,
        images=_images(part, samples),
        film_ns=sum(number * ns for ns, number in films.items()),
        clips_with_frames=_rounded(clips * part.frames.value) if part.frames else 0,
        talks=written,
        prompt_tokens=_rounded(written * talks.prompt_tokens.value) if talks else 0,
        reply_tokens=_rounded(written * talks.reply_tokens.value) if talks else 0,
    )


def _films(part: StatedPart, samples: int) -> dict[int, int]:
    """Nanoseconds of a film, and how many films are as long."""
    if not part.films:
        return {}
    shares = {str(ns): share for ns, share in part.films.bins.items()}
    return {int(ns): number for ns, number in apportion(samples, shares).items()}


def _images(part: StatedPart, samples: int) -> int:
    if part.images:
        return _rounded(samples * part.images.value)
    return samples if part.modality is Modality.IMAGE else 0


def _rounded(value: Fraction) -> int:
    """Half goes up: Python's own rounding would send it to the even number."""
    return floor(value + Fraction(1, 2))
