"""Mixtures for the audit's benchmark: as a build would write them, of invented talk and random features."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from pipeline.plan.apportion import apportion
from pipeline.plan.order import interleave
from pipeline.shards.members import Packed
from pipeline.shards.writer import write_mixture
from schemas.arrays import ClipTimes, EncoderProvenance, Features, FeaturesMeta
from schemas.base import sha256_text
from schemas.conversation import Conversation, Role, Turn, text_digest
from schemas.ledger import Account, Asked, Flow
from schemas.recipe import ShardsSpec
from schemas.sample import Category, Generator, MediaRef, Modality, QuestionAnswer, Sample, Split

SHARES = {
    Modality.TEXT: Fraction("14.4"),
    Modality.IMAGE: Fraction("33.0"),
    Modality.MULTI_IMAGE: Fraction("16.6"),
    Modality.VIDEO: Fraction("36.0"),
}
"""Of samples, percent: the paper's."""
SPEC = ShardsSpec(samples_per_shard=250)
SECOND_NS = 10**9
ENCODERS = tuple(
    EncoderProvenance(
        name=name,
        architecture=name,
        weights="RANDOM seed=0",
        weights_sha256=sha256_text(name),
        preprocessing_sha256=sha256_text("square"),
        layer=-2,
        grid=grid,
        pool=3,
        width=width,
    )
    for name, grid, width in (("siglip", (4, 9, 9), 1152), ("internvideo2", (4, 6, 6), 1408))
)


def make_mixture(folder: Path, samples: int, spec: ShardsSpec = SPEC) -> tuple[list[str], int]:
    """Writes it; returns the shards' names and the bytes of all of them."""
    counts = apportion(samples, SHARES)
    ledger = write_mixture(
        folder, {Split.TRAIN: _packed(counts)}, [encoder.name for encoder in ENCODERS], spec, _account(counts)
    )
    return [shard.name for shard in ledger.shards], ledger.size_bytes


def _packed(counts: dict[Modality, int]) -> Iterator[Packed]:
    rng = np.random.default_rng(0)
    arrays = {modality: _arrays(modality, rng) for modality in Modality}
    for number, modality in enumerate(interleave(counts)):
        sample = _sample(number, modality)
        said = [
            (role, f"{number}.{turn} " + "What is shown here, and what happens then? " * 6)
            for turn in range(3)
            for role in (Role.USER, Role.ASSISTANT)
        ]
        talk = Conversation(
            key=sample.key,
            binding_sha256=sample.binding_sha256(),
            text_sha256=text_digest(sample.key, sample.binding_sha256(), said),
            turns=[Turn(role=role, content=content) for role, content in said],
            generator=Generator(name="template"),
        )
        meta = FeaturesMeta(key=sample.key, clips=_clips(modality), encoders=ENCODERS)
        yield Packed(sample, talk, Features(meta, arrays[modality], {}))


def _arrays(modality: Modality, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """`[clips, time, height, width, channels] float16`; an encoder of frames sees a picture as one."""
    clips, one_frame = len(_clips(modality)), modality in (Modality.IMAGE, Modality.MULTI_IMAGE)
    found = {}
    for encoder in ENCODERS:
        time, height, width = encoder.grid
        shown = 1 if one_frame and encoder.name == "siglip" else time
        shape = (clips, shown, height, width, encoder.width)
        found[encoder.name] = rng.standard_normal(shape, np.float32).astype(np.float16)
    return found


def _clips(modality: Modality) -> tuple[ClipTimes, ...]:
    """Two clips of a film of 4 s at 2 fps; a clip a picture."""
    if modality is Modality.VIDEO:
        half = SECOND_NS // 2
        starts = (0, 2 * SECOND_NS)
        times = [tuple(start + k * half for k in range(4)) for start in starts]
        return tuple(
            ClipTimes(start_ns=start, exclusive_end_ns=start + 2 * SECOND_NS, t_ns=t, pts_ns=t)
            for start, t in zip(starts, times, strict=True)
        )
    pictures = {Modality.TEXT: 0, Modality.IMAGE: 1, Modality.MULTI_IMAGE: 2}[modality]
    return tuple(
        ClipTimes(medium=medium, start_ns=0, exclusive_end_ns=2 * SECOND_NS, t_ns=(0,), pts_ns=(0,))
        for medium in range(pictures)
    )


def _sample(number: int, modality: Modality) -> Sample:
    key = f"{modality}-{number:07d}"
    if modality is Modality.VIDEO:
        film = {"kind": "video", "duration_ns": 4 * SECOND_NS, "exclusive_end_ns": 4 * SECOND_NS}
        media = [MediaRef(path=f"{key}.mp4", sha256=sha256_text(key), **film)]
    else:
        pictures = (f"{key}/{place}.jpg" for place in range(len(_clips(modality))))
        media = [MediaRef(kind="image", path=p, sha256=sha256_text(p), width=8, height=6) for p in pictures]
    return Sample(
        key=key,
        source=f"source-{modality}".replace("_", "-"),
        modality=modality,
        category=Category.CONVERSATIONAL,
        split=Split.TRAIN,
        media=media,
        annotations=[QuestionAnswer(question="What?", answer="This.", topic="shape", evidence="frame")],
        licence="CC0-1.0",
        annotator=Generator(name="renderer"),
    )


def _account(counts: dict[Modality, int]) -> Account:
    total = sum(counts.values())
    stages = ("ingest", "plan", "conversations", "decode", "features")
    return Account(
        recipe="generated",
        recipe_sha256=sha256_text("generated"),
        fps=Fraction(2),
        shares=SHARES,
        asked=[
            Asked(stratum=f"train/{m}/source-{m.value.replace('_', '-')}", asked=n, candidates=n, replaced=0)
            for m, n in counts.items()
        ],
        flows=[Flow(stage=stage, inputs=total, outputs=total, rejected=0) for stage in stages],
        rejected={},
    )
