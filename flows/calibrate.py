"""`mixture calibrate`: how fast this machine decodes, encodes and writes talk, measured on the recipe's samples."""

import os
import platform
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.conversations.engine import need_vllm
from pipeline.conversations.forecast import first_prompts
from pipeline.conversations.model import build_engine
from pipeline.conversations.speed import ROUNDS, measure_speed
from pipeline.decode.stage import Decode
from pipeline.features.stage import Encode, device_name
from schemas.arrays import Frames
from schemas.base import InputError
from schemas.capacity import Rates, UnitSeconds
from schemas.recipe import Recipe
from schemas.sample import Modality, Sample

SAMPLES = 24
"""Films, and image samples, that are measured: enough that one odd film does not decide."""


def calibrate(recipe: Recipe, samples: Sequence[Sample], roots: Mapping[str, str]) -> Rates:
    """Seconds for a clip and for an image: of a core that decodes, and of the device with each encoder. Seconds of
    the devices for a token, where vLLM writes.

    The first `SAMPLES` films and image samples are taken, one after the other, by one worker, which is one core's
    work; what cannot be decoded is left out. `roots` are the sources' media folders.
    """
    films = [sample for sample in samples if sample.modality is Modality.VIDEO][:SAMPLES]
    images = [sample for sample in samples if sample.modality in (Modality.IMAGE, Modality.MULTI_IMAGE)][:SAMPLES]
    film_s, film_frames = _decoded(recipe, films, roots)
    image_s, image_frames = _decoded(recipe, images, roots)
    return Rates(
        machine=_machine(),
        decode_core_s=UnitSeconds(clip=film_s, image=image_s),
        encode_device_s={
            name: UnitSeconds(
                clip=_encoded_s(recipe, name, film_frames), image=_encoded_s(recipe, name, image_frames)
            )
            for name in recipe.encoders
        },
        encoders={name: spec.speed_class for name, spec in recipe.encoders.items()},
        **_generation(recipe, samples),
    )


def not_measured(recipe: Recipe) -> str:
    """Why calibration tells nothing of generation, though a model writes; empty where it does."""
    if recipe.conversations.generator == "template" or recipe.engine is None:
        return ""
    if recipe.engine.kind != "vllm":
        return "nobody here knows how many GPUs an endpoint has: put seconds x GPUs / tokens into generate_device_s"
    try:
        need_vllm()
    except InputError as error:
        return str(error)
    return ""


def _generation(recipe: Recipe, samples: Sequence[Sample]) -> dict[str, Any]:
    """The fields of `Rates` that tell of it."""
    spec, model = recipe.engine, recipe.conversations.model
    if spec is None or model is None or not_measured(recipe):
        return {}
    engine = build_engine(model, spec)
    asked = first_prompts(samples, recipe.conversations, recipe.seed)
    prompts = list(islice(asked, 1 + 2 * ROUNDS * engine.slots))
    if not prompts:
        return {}
    speed = measure_speed(engine, prompts, spec.tensor_parallel)
    return {"generate_device_s": speed, "generator": model.speed_class}


def _decoded(recipe: Recipe, samples: Sequence[Sample], roots: Mapping[str, str]) -> tuple[float, list[Frames]]:
    """Seconds a clip (of an image: its one frame), and the frames."""
    preprocessing = {name: spec.preprocessing for name, spec in recipe.encoders.items()}
    stage = Decode(recipe.decode, preprocessing, roots)
    frames, seconds = [], 0.0
    try:
        stage.setup()
        stage.process(samples[:1])  # the first one loads the libraries
        for sample in samples:
            begin = time.perf_counter()
            (outcome,) = stage.process([sample])
            if isinstance(outcome, Frames) and outcome.meta.clips:
                seconds += time.perf_counter() - begin
                frames.append(outcome)
    finally:
        stage.close()
    return _a_clip(seconds, frames), frames


def _encoded_s(recipe: Recipe, name: str, frames: Sequence[Frames]) -> float:
    """Seconds a clip of one encoder, all samples in one batch."""
    if not frames:
        return 0.0
    stage = Encode(
        {name: recipe.encoders[name]},
        frames_per_clip=recipe.decode.frames_per_clip,
        clips_at_once=recipe.runtime.clips_at_once,
    )
    try:
        stage.setup()
        # the first batch of each frame count starts kernels, or compiles
        stage.process(list({each.pixels[name].shape[1]: each for each in frames}.values()))
        begin = time.perf_counter()
        stage.process(frames)
        return _a_clip(time.perf_counter() - begin, frames)
    finally:
        stage.close()


def _a_clip(seconds: float, frames: Sequence[Frames]) -> float:
    return seconds / max(1, sum(len(each.meta.clips) for each in frames))


def _machine() -> str:
    path = Path("/proc/cpuinfo")
    rows = path.read_text().splitlines() if path.exists() else []
    model = next(
        (row.partition(":")[2].strip() for row in rows if row.startswith("model name")), platform.machine()
    )
    return f"{model}, {os.cpu_count()} cores; encoders on {device_name()}"
