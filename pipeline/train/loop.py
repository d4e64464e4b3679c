"""Apollo's three training stages over stored shards (paper, Table 7 and section C.4).

    align   connector                     on stored features
    vision  encoders and connector        on stored frames, video only
    sft     connector and language model  on stored features

A learning rate of 0 freezes a part. AdamW without weight decay, beta2 0.95 (the paper gives neither),
cosine with warm-up, gradients clipped by their norm. The loss is the cross-entropy of the assistant's
words, mean over the tokens of an answer, then over the answers of a batch: the paper does not say, and
in a mean over all tokens long captions drown answers of one word. Every draw hangs on `spec.seed`: on a
CPU the same run gives the same bits.

This module needs torch: import it inside the function that uses it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil, floor
from pathlib import Path

import torch
from torch import nn

from pipeline.storage.files import write_text
from pipeline.train import METRICS
from pipeline.train.checkpoint import (
    Metrics,
    StageMetrics,
    StageRecord,
    restore_stage,
    save_stage,
    stage_folder,
)
from pipeline.train.connector import Connector, ConnectorSpec, common_grid
from pipeline.train.dataset import Batch, Item, Reader, collate, encoders_of, labels_of, shown
from pipeline.train.model import VideoLMM, load_llm, load_tokenizer
from pipeline.train.prompt import ChatMl, Talk, train_tokenizer
from pipeline.train.schedule import batches, learning_rate_factor, order, stream
from schemas.arrays import EncoderProvenance
from schemas.base import digest
from schemas.ledger import ShardSample
from schemas.recipe import StageSpec, TrainSpec

Progress = Callable[[str, int, int, float], None]
"""Called with stage name, steps done, steps in all, and the mean loss of the batch just learnt."""

FIXED_SAMPLES = 64
"""Samples of the batch whose loss is measured before and after a stage."""
MICRO_CLIPS = 64
"""Most clips that go through the connector at once: 64 * 2916 * 2560 bf16 numbers, 1 GB, at Apollo's size."""
PADDING = 1.3
"""A batch is gone through in parts, shortest first; in a part no talk is longer than this many times another."""


@dataclass(frozen=True)
class Run:
    """All that a stage needs."""

    reader: Reader
    spec: TrainSpec
    columns: tuple[EncoderProvenance, ...]
    encoders: Mapping[str, nn.Module]
    model: VideoLMM
    chat: ChatMl
    device: torch.device

    def talk(self, sample: ShardSample) -> Talk:
        """The sample's talk as ids, cut to the longest allowed."""
        labels = labels_of(sample, self.spec.max_clips)
        apart = self.spec.rounds == "apart"
        return self.chat.talk(labels, sample.conversations, apart).cut(self.spec.max_tokens)

    def items(self, positions: Sequence[int], frames: bool) -> list[Item]:
        """Talks and arrays of the samples at `positions`."""
        names = [column.name for column in self.columns]
        stored = [self.reader.read(position, names, frames) for position in positions]
        return [Item(self.talk(s.sample), shown(s, self.columns, self.spec.max_clips, frames)) for s in stored]

    def loss_sum(self, items: Sequence[Item], frames: bool) -> torch.Tensor:
        """Weighted sum of the losses of `items`; frames go through the encoders first."""
        batch = collate(items, self.chat).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            return self.model.loss_sum(self._encoded(batch) if frames else batch)

    def _encoded(self, batch: Batch) -> Batch:
        arrays = tuple(
            self.encoders[column.name](pixels) for column, pixels in zip(self.columns, batch.arrays, strict=False)
        )  # no arrays at all where every sample of the batch is text
        return replace(batch, arrays=arrays)


def train(
    reader: Reader, spec: TrainSpec, encoders: Mapping[str, nn.Module], folder: Path, progress: Progress
) -> Metrics:
    """Runs the stages of `spec` in order; a stage whose checkpoint lies in `folder` is taken up, not repeated.

    `encoders` map `[clips, T, S, S, 3] uint8` to `[clips, t, h, w, D] float32`, differentiably; only
    a stage with `lr_vision` needs them, and changes them in place. Writes the checkpoints and
    `metrics.json`. Raises ValueError when there is nothing to train, or nothing to train a stage on.
    """
    if not spec.stages:
        raise ValueError("train.stages is empty: name at least one of align, vision, sft")
    with _one_cpu_thread():
        return _train(_prepare(reader, spec, encoders), folder, progress)


def _train(run: Run, folder: Path, progress: Progress) -> Metrics:
    reader, spec, encoders = run.reader, run.spec, run.encoders
    run_sha256 = digest([spec.canonical(), [column.canonical() for column in run.columns], len(reader)])
    done: list[StageMetrics] = []
    for number, stage in enumerate(spec.stages, start=1):
        path = stage_folder(folder, number, stage.name)
        metrics = restore_stage(path, run.model, encoders, run_sha256)
        if metrics is None:
            metrics = run_stage(run, stage, f"{number}-{stage.name}", progress)
            record = StageRecord(
                run_sha256=run_sha256, spec=spec, encoders=run.columns,
                connector=run.model.connector.spec, metrics=metrics,
            )  # fmt: skip
            save_stage(path, run.model, run.chat, encoders, record)
        done.append(metrics)
    result = _metrics(run, done, path.name)
    write_text(folder / METRICS, result.canonical())
    return result


@contextmanager
def _one_cpu_thread() -> Iterator[None]:
    """PyTorch on one CPU thread: sums split over threads would round differently on another machine,
    and models small enough to train on a CPU lose more than they gain by splitting them.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_stage(run: Run, stage: StageSpec, label: str, progress: Progress) -> StageMetrics:
    """One stage: `floor(epochs * samples)` samples, one step a batch. `label` salts the order."""
    positions = run.reader.positions(stage.modalities, stage.categories)
    samples = floor(stage.epochs * len(positions))
    if samples == 0:
        raise ValueError(
            f"stage {stage.name} has no sample to learn from: {len(positions)} of modalities "
            f"{list(stage.modalities)} and categories {list(stage.categories)}, {stage.epochs} epochs"
        )
    frames = stage.lr_vision > 0
    optimiser = freeze_and_optimise(run, stage)
    fixed = fixed_batch(run, stage, label, positions)
    loss_start = _mean_loss(run, fixed, frames)
    order_ = stream(run.spec.seed, label, stage.epochs, positions)
    steps = ceil(samples / stage.batch_size)
    for step, batch in enumerate(batches(order_, stage.batch_size)):
        factor = learning_rate_factor(step, steps, run.spec.warmup)
        progress(stage.name, step + 1, steps, _step(run, optimiser, factor, run.items(batch, frames), frames))
    return StageMetrics(
        name=stage.name,
        steps=steps,
        samples=samples,
        loss_start=loss_start,
        loss_end=_mean_loss(run, fixed, frames),
        tuned_encoders=tuple(column.name for column in run.columns) if frames else (),
    )


def freeze_and_optimise(run: Run, stage: StageSpec) -> torch.optim.AdamW:
    """An optimiser over the parts with a learning rate; all other parameters stop asking for gradients.

    Raises ValueError when the encoders are to learn but were not handed in, or when nothing learns.
    """
    missing = [column.name for column in run.columns if column.name not in run.encoders]
    if stage.lr_vision and missing:
        raise ValueError(f"stage {stage.name} tunes the encoders, but {', '.join(missing)} are not at hand")
    vision = [p for name in sorted(run.encoders) for p in run.encoders[name].parameters()]
    parts = [
        (stage.lr_vision, vision),
        (stage.lr_connector, list(run.model.connector.parameters())),
        (stage.lr_llm, list(run.model.llm.parameters())),
    ]
    for rate, parameters in parts:
        for parameter in parameters:
            parameter.requires_grad_(rate > 0)
    groups = [{"params": parameters, "lr": rate, "full_lr": rate} for rate, parameters in parts if rate > 0]
    if not groups:
        raise ValueError(f"stage {stage.name} trains nothing: give lr_vision, lr_connector or lr_llm above 0")
    return torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0)


def fixed_batch(run: Run, stage: StageSpec, label: str, positions: Sequence[int]) -> list[int]:
    """The stage's measure: FIXED_SAMPLES of its own samples (fewer where it has fewer), chosen by the seed."""
    return order(run.spec.seed, f"{label}/fixed", 0, positions)[:FIXED_SAMPLES]


def _step(run: Run, optimiser: torch.optim.AdamW, factor: float, items: Sequence[Item], frames: bool) -> float:
    """One optimiser step at `factor` of the full rates; the mean loss of its answers."""
    answers = _answers(items)
    optimiser.zero_grad(set_to_none=True)
    total = 0.0
    for part in _parts(items):
        loss = run.loss_sum(part, frames) / answers
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    learning = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    nn.utils.clip_grad_norm_(learning, run.spec.grad_clip, error_if_nonfinite=True)
    for group in optimiser.param_groups:
        group["lr"] = group["full_lr"] * factor
    optimiser.step()
    return total


@torch.no_grad()
def _mean_loss(run: Run, positions: Sequence[int], frames: bool) -> float:
    items = run.items(positions, frames)
    return sum(run.loss_sum(part, frames).item() for part in _parts(items)) / _answers(items)


def _answers(items: Sequence[Item]) -> float:
    """Answers in `items`; never 0, which it would be where all talks were cut before their first answer."""
    return max(1e-6, sum(sum(item.talk.weights) for item in items))


def _parts(items: Sequence[Item]) -> Iterator[list[Item]]:
    """`items` by length, cut where padding would exceed PADDING or clips MICRO_CLIPS; at least one item each."""
    part: list[Item] = []
    for item in sorted(items, key=lambda item: len(item.talk)):
        clips = sum(len(i.arrays[0]) for i in [*part, item])
        if part and (clips > MICRO_CLIPS or len(item.talk) > PADDING * len(part[0].talk)):
            yield part
            part = []
        part.append(item)
    yield part


def _prepare(reader: Reader, spec: TrainSpec, encoders: Mapping[str, nn.Module]) -> Run:
    columns = encoders_of(reader)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if spec.llm.checkpoint == "tiny":
        tokenizer = train_tokenizer(list(_texts(reader)), spec.llm.vocabulary)
    else:
        tokenizer = load_tokenizer(Path(spec.llm.checkpoint))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        llm = load_llm(spec.llm, tokenizer)
        connector = Connector(_connector_spec(spec, columns, int(llm.config.hidden_size)))
    model = VideoLMM(llm, connector).to(device).eval()  # no part has dropout: eval and train are one
    for encoder in encoders.values():
        encoder.to(device).eval()
    return Run(reader, spec, columns, encoders, model, ChatMl(tokenizer, connector.spec.tokens), device)


def _connector_spec(spec: TrainSpec, columns: Sequence[EncoderProvenance], hidden: int) -> ConnectorSpec:
    grid = common_grid([column.grid for column in columns])
    return ConnectorSpec(
        widths=tuple(column.width for column in columns), grid=grid, hidden=hidden,
        tokens=spec.tokens_per_frame * grid[0],  # the grid's time steps are the clip's frames
        heads=spec.connector_heads, kv_heads=spec.connector_kv_heads, head_dim=spec.connector_head_dim,
    )  # fmt: skip


def _texts(reader: Reader) -> Iterator[str]:
    for position in range(len(reader)):
        sample = reader.read(position, []).sample
        yield "\n".join([*labels_of(sample, len(sample.clips)), *(turn.content for turn in sample.conversations)])


def _metrics(run: Run, done: Sequence[StageMetrics], checkpoint: str) -> Metrics:
    parts: dict[str, nn.Module] = {"connector": run.model.connector, "llm": run.model.llm, **run.encoders}
    return Metrics(
        spec=run.spec,
        encoders=run.columns,
        parameters={name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()},
        stages=tuple(done),
        checkpoint=checkpoint,
        sft_features="encoders before stage vision" if any(stage.tuned_encoders for stage in done) else "",
    )
