"""A trained model that answers questions: `load(folder)`, then `answer(samples, questions)`.

This module needs torch: import it inside the function that uses it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_model

from pipeline.train import METRICS
from pipeline.train.checkpoint import Metrics, StageRecord, read_stage
from pipeline.train.connector import Connector
from pipeline.train.dataset import Item, StoredSample, collate, labels_of, shown
from pipeline.train.model import VideoLMM, load_tokenizer
from pipeline.train.prompt import ChatMl

BATCH = 32
"""Questions decoded side by side."""
MAX_NEW_TOKENS = 24
"""Longest answer; held-out questions ask for a word or two."""


@dataclass(frozen=True)
class Trained:
    """A model with its tokenizer and the record of its last stage."""

    model: VideoLMM
    chat: ChatMl
    record: StageRecord
    device: torch.device

    def answer(self, samples: Sequence[StoredSample | None], questions: Sequence[str]) -> list[str]:
        """One greedy answer a question, each asked alone about its sample's stored features.

        Where the sample is None the question stands without any vision token.
        """
        items = [self._item(s, q) for s, q in zip(samples, questions, strict=True)]
        by_length = sorted(range(len(items)), key=lambda at: len(items[at].talk))
        answers: dict[int, str] = {}
        for start in range(0, len(items), BATCH):
            rows = by_length[start : start + BATCH]
            batch = collate([items[at] for at in rows], self.chat).to(self.device)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                ids = self.model.answer(batch, self.chat.end, self.chat.pad, MAX_NEW_TOKENS)
            answers.update((at, self.chat.read(row)) for at, row in zip(rows, ids, strict=True))
        return [answers[at] for at in range(len(items))]

    def _item(self, stored: StoredSample | None, question: str) -> Item:
        columns, at_most = self.record.encoders, self.record.spec.max_clips
        if stored is None:
            return Item(self.chat.question([], question), ())
        return Item(
            self.chat.question(labels_of(stored.sample, at_most), question), shown(stored, columns, at_most, False)
        )


def load(folder: Path) -> Trained:
    """The model that `loop.train` left in `folder`. Raises FileNotFoundError where training did not end."""
    from transformers import AutoConfig, AutoModelForCausalLM

    metrics = Metrics.model_validate_json((folder / METRICS).read_text(encoding="utf-8"))
    path = folder / metrics.checkpoint
    record = read_stage(path)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    llm = AutoModelForCausalLM.from_config(config, trust_remote_code=False)  # type: ignore[no-untyped-call]
    model = VideoLMM(llm, Connector(record.connector)).to(device).eval()
    load_model(model, str(path / "model.safetensors"), device=str(device))
    return Trained(model, ChatMl(load_tokenizer(path), record.connector.tokens), record, device)
