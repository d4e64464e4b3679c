"""What training leaves behind: one folder a stage, whole or absent, and `metrics.json` last.

    <folder>/1-align/   model.safetensors  config.json  tokenizer.json  stage.json
    <folder>/2-vision/  the same, and vision-<encoder>.safetensors for each tuned encoder
    <folder>/metrics.json

This module needs torch: import it inside the function that uses it.
"""

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field
from safetensors.torch import load_model, save_model
from torch import nn

from pipeline.storage.files import attempt_path, commit, write_text
from pipeline.train.connector import ConnectorSpec
from pipeline.train.model import VideoLMM
from pipeline.train.prompt import ChatMl
from schemas.arrays import EncoderProvenance
from schemas.base import Record, Sha256
from schemas.recipe import TrainSpec

STAGE = "stage.json"
TUNED_FROM = "tuned_from"
"""In the metadata of a tuned encoder's file, what its weights were before: who names it in a recipe must know."""


class StageMetrics(Record):
    """One stage, done. Losses are means over the answers of one fixed batch (see `loop.fixed_batch`)."""

    name: str
    steps: int = Field(gt=0)
    samples: int = Field(gt=0)
    loss_start: float
    """Of the fixed batch, before the stage's first step."""
    loss_end: float
    """Of the same batch, after its last."""
    tuned_encoders: tuple[str, ...] = ()


class StageRecord(Record):
    """`stage.json`: enough to build the model again, and to know whether it is the one asked for."""

    run_sha256: Sha256
    """Digest of the training spec and of the feature columns; a checkpoint of another run is refused."""
    spec: TrainSpec
    encoders: tuple[EncoderProvenance, ...]
    connector: ConnectorSpec
    metrics: StageMetrics


class Metrics(Record):
    """`metrics.json`: the account of a training run."""

    spec: TrainSpec
    encoders: tuple[EncoderProvenance, ...]
    parameters: dict[str, int]
    """Count by part: `connector`, `llm`, and each encoder that was handed in."""
    stages: tuple[StageMetrics, ...] = Field(min_length=1)
    checkpoint: str
    """Folder of the last stage, relative to this file."""
    sft_features: str = ""
    """Which encoders made the features that stages after `vision` learnt from; empty without that stage.

    Tuned encoders make other features than the stored ones. To train on theirs, encode the mixture
    again with their weights (a new column with a fingerprint of its own).
    """


def stage_folder(folder: Path, number: int, name: str) -> Path:
    """Where the 1-based stage `number` leaves its checkpoint."""
    return folder / f"{number}-{name}"


def save_stage(
    path: Path, model: VideoLMM, chat: ChatMl, encoders: Mapping[str, nn.Module], record: StageRecord
) -> None:
    """Publishes a checkpoint at `path`; `encoders` whose weights the stage tuned go with it.

    Their files are `weights` that a recipe can name: so features of the tuned encoders are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    attempt = attempt_path(path)
    attempt.mkdir()
    save_model(model, str(attempt / "model.safetensors"))
    for name in record.metrics.tuned_encoders:
        before = next(encoder.weights for encoder in record.encoders if encoder.name == name)
        save_model(encoders[name], str(attempt / f"vision-{name}.safetensors"), {TUNED_FROM: before})
    model.llm.config.save_pretrained(attempt)
    chat.tokenizer.save(str(attempt / "tokenizer.json"))
    write_text(attempt / STAGE, record.canonical())
    commit(attempt, path)


def restore_stage(
    path: Path, model: VideoLMM, encoders: Mapping[str, nn.Module], run_sha256: str
) -> StageMetrics | None:
    """Takes up a finished stage: loads its weights in place. None where `path` holds none.

    Raises ValueError when the checkpoint belongs to a run with another spec or other features.
    """
    if not (path / STAGE).is_file():
        return None
    record = read_stage(path)
    if record.run_sha256 != run_sha256:
        raise ValueError(f"{path} holds a checkpoint of another training run: choose an empty folder")
    load_model(model, str(path / "model.safetensors"))
    for name in record.metrics.tuned_encoders:
        load_model(encoders[name], str(path / f"vision-{name}.safetensors"))
    return record.metrics


def read_stage(path: Path) -> StageRecord:
    """The record of a finished stage."""
    return StageRecord.model_validate_json((path / STAGE).read_text(encoding="utf-8"))
