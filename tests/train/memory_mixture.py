"""A mixture in memory: films whose features and frames tell their colour, and a text."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import nn

from schemas.arrays import ClipTimes, EncoderProvenance
from schemas.conversation import Role, Turn
from schemas.ledger import ShardSample
from schemas.recipe import LlmSpec, StageSpec, TrainSpec
from schemas.sample import Category, Generator, MediaRef, Modality, Split

ZERO = "0" * 64
COLOURS = ("red", "green", "blue", "white")
SIDE = 8
ENCODERS = tuple(
    EncoderProvenance(
        name=name, architecture="patches", weights="RANDOM seed=0", weights_sha256=ZERO,
        preprocessing_sha256=ZERO, layer=-1, grid=grid, width=width,
    )
    for name, grid, width in (("siglip", (2, 2, 2), 6), ("video", (2, 1, 1), 10))
)  # fmt: skip


class Patches(nn.Module):
    """Means over patches, through one Linear: an encoder as the trainer sees one."""

    def __init__(self, side, width, seed):
        super().__init__()
        self.side = side
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.linear = nn.Linear(3, width)

    def forward(self, frames):
        clips, time = frames.shape[:2]
        cells = nn.functional.adaptive_avg_pool2d(frames.flatten(0, 1).permute(0, 3, 1, 2).float() / 255, self.side)
        return self.linear(cells.permute(0, 2, 3, 1)).unflatten(0, (clips, time))


def encoders():
    return {e.name: Patches(e.grid[1], e.width, seed) for seed, e in enumerate(ENCODERS)}


@dataclass(frozen=True)
class Stored:
    sample: ShardSample
    features: dict
    frames: dict


class MemoryReader:
    encoders = ENCODERS

    def __init__(self, stored):
        self.stored = list(stored)

    def __len__(self):
        return len(self.stored)

    def positions(self, modalities, categories):
        return [
            at
            for at, s in enumerate(self.stored)
            if s.sample.modality in modalities and (not categories or s.sample.category in categories)
        ]

    def read(self, position, encoders, frames=False):
        s = self.stored[position]
        kept = {name: s.features[name] for name in encoders}
        return Stored(s.sample, kept, {name: s.frames[name] for name in encoders} if frames else {})


def sample(key, modality, rounds, clips=0, split=Split.TRAIN, category=Category.CAPTIONING, topic="colour"):
    kinds = {Modality.TEXT: [], Modality.IMAGE: ["image"], Modality.VIDEO: ["video"]}[modality]
    times = [ClipTimes(start_ns=c, exclusive_end_ns=c + 1, t_ns=(c,), pts_ns=(c,)) for c in range(clips)]
    human = Generator(name="human")
    turns = [Turn(role=role, content=text) for pair in rounds for role, text in zip(Role, pair, strict=True)]
    questions = [{"question": q, "answer": a, "topic": topic, "evidence": "frame"} for q, a in rounds]
    return ShardSample(
        key=key, source="memory", modality=modality, category=category, split=split, licence="CC0-1.0",
        annotator=human, generator=human, binding_sha256=ZERO, text_sha256=ZERO, conversations=turns,
        questions=questions, media=[MediaRef(kind=kind, path=key) for kind in kinds], clips=times,
        encoders=ENCODERS,
    )  # fmt: skip


def film(number, split=Split.TRAIN, clips=2):
    colour = COLOURS[number % 4]
    pixels = np.zeros((clips, 2, SIDE, SIDE, 3), np.uint8)
    pixels[..., : min(3, number % 4 + 1)] = 10 + number  # dim: the least bright channel tells films apart too
    channel = {"red": [0], "green": [1], "blue": [2], "white": [0, 1, 2]}[colour]
    pixels[..., channel] = 240
    frames = {e.name: pixels for e in ENCODERS}
    with torch.no_grad():
        features = {name: net(torch.from_numpy(pixels)).half().numpy() for name, net in encoders().items()}
    rounds = [("What colour?", colour)]
    return Stored(sample(f"film-{split}-{number}", Modality.VIDEO, rounds, clips, split), features, frames)


def text(number):
    features = {e.name: np.empty((0, *e.grid, e.width), np.float16) for e in ENCODERS}
    frames = {e.name: np.empty((0, 2, SIDE, SIDE, 3), np.uint8) for e in ENCODERS}
    return Stored(sample(f"text-{number}", Modality.TEXT, [("Add one.", str(number + 1))]), features, frames)


def mixture(films=8, texts=2):
    return MemoryReader([*map(film, range(films)), *map(text, range(texts))])


ALIGN = StageSpec(name="align", modalities=[Modality.VIDEO], batch_size=4, lr_connector=1e-2)
VISION = StageSpec(name="vision", modalities=[Modality.VIDEO], batch_size=4, lr_vision=1e-2, lr_connector=1e-2)
SFT = StageSpec(
    name="sft", modalities=[Modality.VIDEO, Modality.TEXT], batch_size=4, lr_connector=3e-3, lr_llm=3e-3
)


def spec(*stages, epochs=1, seed=0, **fields):
    return TrainSpec(
        llm=LlmSpec(hidden_size=32, layers=1, vocabulary=300), tokens_per_frame=1, seed=seed,
        connector_heads=2, connector_kv_heads=1, connector_head_dim=16,
        stages=[stage.model_copy(update={"epochs": Fraction(epochs)}) for stage in stages], **fields,
    )  # fmt: skip


def quiet(stage, step, steps, loss):
    """Progress nobody watches."""
