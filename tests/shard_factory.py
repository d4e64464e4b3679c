"""A small mixture with every modality, made of invented records: no media, no models."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from pipeline.decode.mjpeg import to_mjpeg
from pipeline.plan.order import interleave
from pipeline.shards.columns import Encoded, join, write_column
from pipeline.shards.index import starts_in
from pipeline.shards.members import Packed
from pipeline.shards.writer import write_mixture
from schemas.arrays import ClipTimes, EncoderProvenance, Features, FeaturesMeta
from schemas.base import sha256_text
from schemas.conversation import Conversation, Role, Turn, text_digest
from schemas.ledger import Account, Asked, Flow, Ledger
from schemas.recipe import ShardsSpec
from schemas.sample import Category, Generator, MediaRef, Modality, QuestionAnswer, Sample, Split

FRAMES, SIDE, FPS = 4, 6, Fraction(2)
HALF_SECOND_NS = 500_000_000
SHARES = {Modality.TEXT: 12, Modality.IMAGE: 26, Modality.MULTI_IMAGE: 22, Modality.VIDEO: 40}
TRAIN = {Modality.TEXT: 5, Modality.IMAGE: 10, Modality.MULTI_IMAGE: 9, Modality.VIDEO: 16}
"""40 samples by SHARES: 4.8, 10.4, 8.8 and 16, the largest remainders rounded up."""
HELDOUT = {Modality.VIDEO: 5}
ENCODERS = tuple(
    EncoderProvenance(
        name=name,
        architecture=name,
        weights="RANDOM seed=0",
        weights_sha256=sha256_text(name),
        preprocessing_sha256=sha256_text("square"),
        layer=-2,
        grid=(FRAMES, 2, 3),
        width=width,
    )
    for name, width in (("siglip", 5), ("internvideo2", 7))
)
NAMES = [encoder.name for encoder in ENCODERS]
WITH_FRAMES = ShardsSpec(samples_per_shard=12, frames_for=(Category.TEMPORAL_PERCEPTION,))
WITH_PICTURES = WITH_FRAMES.model_copy(update={"frames_codec": "mjpeg"})
WITHOUT_FRAMES = ShardsSpec(samples_per_shard=12)


def make_packed(
    number: int, modality: Modality, split: Split = Split.TRAIN, encoders: tuple[EncoderProvenance, ...] = ENCODERS
) -> Packed:
    """The sample of this number: its content depends on its arguments alone."""
    sample = _sample(number, modality, split)
    said = [(Role.USER, f"What is in {sample.key}?"), (Role.ASSISTANT, f"A blöb, number {number}.")] * (
        1 + number % 3
    )
    conversation = Conversation(
        key=sample.key,
        binding_sha256=sample.binding_sha256(),
        text_sha256=text_digest(sample.key, sample.binding_sha256(), said),
        turns=[Turn(role=role, content=content) for role, content in said],
        generator=Generator(name="template"),
    )
    return Packed(sample, conversation, _features(sample, number, encoders))


def samples(counts: dict[Modality, int], split: Split) -> Iterator[Packed]:
    """As many of each modality, in an order that keeps the prefix law."""
    for number, modality in enumerate(interleave(counts)):
        yield make_packed(number, modality, split)


def account(train: dict[Modality, int] = TRAIN, heldout: dict[Modality, int] = HELDOUT) -> Account:
    """What the recipe asked: all of it was found."""
    rows = [(Split.TRAIN, m, n) for m, n in train.items()] + [(Split.HELDOUT, m, n) for m, n in heldout.items()]
    total = sum(n for _, _, n in rows)
    return Account(
        recipe="small",
        recipe_sha256=sha256_text("recipe"),
        fps=FPS,
        shares=SHARES,
        asked=[Asked(stratum=f"{s}/{m}/{source_of(m)}", asked=n, candidates=n + 3, replaced=1) for s, m, n in rows],
        flows=[
            Flow(stage="ingest", inputs=total + 5, outputs=total + 5, rejected=0),
            Flow(stage="plan", inputs=total + 5, outputs=total + 2, rejected=0, filtered=3),
            Flow(stage="conversations", inputs=total + 2, outputs=total + 2, rejected=0),
            Flow(stage="decode", inputs=total + 2, outputs=total + 2, rejected=0),
            Flow(stage="features", inputs=total + 2, outputs=total, rejected=2),
        ],
        rejected={"features/poison": 1, "decode/decode_error": 1},
    )


def build(folder: Path, spec: ShardsSpec = WITH_FRAMES) -> Ledger:
    """Writes the whole mixture: 40 train and 5 heldout samples in shards of 12."""
    counts = {Split.HELDOUT: HELDOUT, Split.TRAIN: TRAIN}
    splits = {split: as_asked(samples(each, split), spec) for split, each in counts.items()}
    return write_mixture(folder, splits, NAMES, spec, account())


def every(size: int, counts: dict[Modality, int], split: Split = Split.TRAIN) -> dict[Split, list[int]]:
    """Where tars of so many samples begin."""
    return {split: list(range(0, sum(counts.values()), size))}


def as_asked(packed: Iterator[Packed], spec: ShardsSpec) -> Iterator[Packed]:
    """The samples with their frames in the form of `spec`."""
    for each in packed:
        if spec.frames_codec == "mjpeg":
            frames = {name: to_mjpeg(pixels, spec.frames_quality) for name, pixels in each.features.frames.items()}
            yield replace(each, features=replace(each.features, frames=frames))
        else:
            yield each


def source_of(modality: Modality) -> str:
    """The one source of a modality."""
    return {Modality.TEXT: "docs", Modality.IMAGE: "photos", Modality.MULTI_IMAGE: "photo-sets"}.get(
        modality, "shapes"
    )


def _sample(number: int, modality: Modality, split: Split) -> Sample:
    key = f"{split}-{modality}-{number:04d}"
    kinds = {Modality.TEXT: [], Modality.IMAGE: ["image"], Modality.MULTI_IMAGE: ["image"] * 2}
    media = [_medium(kind, f"{key}/{index}") for index, kind in enumerate(kinds.get(modality, ["video"]))]
    temporal = modality is Modality.VIDEO and number % 2 == 0
    return Sample(
        key=key,
        source=source_of(modality),
        modality=modality,
        category=Category.TEMPORAL_PERCEPTION if temporal else Category.CONVERSATIONAL,
        split=split,
        media=media,
        annotations=[QuestionAnswer(question="What?", answer="A blob.", topic="shape", evidence="frame")],
        licence="CC-BY-4.0" if modality is Modality.IMAGE else "CC0-1.0",
        annotator=Generator(name="human" if modality is Modality.IMAGE else "renderer"),
    )


def _medium(kind: str, path: str) -> MediaRef:
    if kind == "image":
        return MediaRef(kind="image", path=path, sha256=sha256_text(path), size_bytes=9, width=8, height=6)
    film = {"kind": "video", "duration_ns": 7 * HALF_SECOND_NS, "exclusive_end_ns": 3_100_000_000}
    return MediaRef(path=path, sha256=sha256_text(path), **film)


def _clips(sample: Sample) -> tuple[ClipTimes, ...]:
    """A picture is one clip of one frame; a film of 3.1 s has two of four frames at 2 fps, the second cut short."""
    if sample.modality is not Modality.VIDEO:
        return tuple(
            ClipTimes(medium=index, start_ns=0, exclusive_end_ns=4 * HALF_SECOND_NS, t_ns=(0,), pts_ns=(0,))
            for index in range(len(sample.media))
        )
    ticks = ((0, 1, 2, 3), (4, 5, 6, 6))
    ends = (4 * HALF_SECOND_NS, 3_100_000_000)
    return tuple(
        ClipTimes(
            start_ns=t[0] * HALF_SECOND_NS,
            exclusive_end_ns=end,
            t_ns=[tick * HALF_SECOND_NS for tick in t],
            pts_ns=[max(0, tick * HALF_SECOND_NS - 7) for tick in t],
        )
        for t, end in zip(ticks, ends, strict=True)
    )


def _features(sample: Sample, number: int, encoders: tuple[EncoderProvenance, ...]) -> Features:
    clips, rng = _clips(sample), np.random.default_rng(number)
    arrays, frames = {}, {}
    for encoder in encoders:
        time, height, width = encoder.grid
        picture = bool(sample.media) and sample.modality is not Modality.VIDEO
        shown = 1 if picture and encoder.name == "siglip" else time
        arrays[encoder.name] = rng.standard_normal((len(clips), shown, height, width, encoder.width)).astype("f2")
        shape = (len(clips), 1 if picture else FRAMES, SIDE, SIDE, 3)
        frames[encoder.name] = rng.integers(0, 256, shape, dtype=np.uint8)
    return Features(FeaturesMeta(key=sample.key, clips=clips, encoders=encoders), arrays, frames)


def build_with_column(folder: Path, column: str = "internvideo2", spec: ShardsSpec = WITH_FRAMES) -> Ledger:
    """`shards` without the encoder `column`, `column` with it alone, and the `mixture` of both."""
    counts = {Split.HELDOUT: HELDOUT, Split.TRAIN: TRAIN}
    beside = [name for name in NAMES if name != column]
    packed = {s: list(as_asked(samples(n, s), spec)) for s, n in counts.items()}
    write_mixture(folder / "shards", packed, beside, spec, account())
    rows = {s: (Encoded(each.sample, each.features) for each in own) for s, own in packed.items()}
    starts = {s: starts_in(folder / "shards", s) for s in counts}
    write_column(folder / "column", column, rows, spec, starts)
    return join(folder / "mixture", folder / "shards", {column: folder / "column"}, NAMES, sha256_text("recipe"))
