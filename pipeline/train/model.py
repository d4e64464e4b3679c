"""The video LMM: a language model whose input embeddings hold vision tokens in the places kept for them.

This module needs torch: import it inside the function that uses it.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

from pipeline.train.connector import Connector
from pipeline.train.dataset import Batch
from pipeline.train.prompt import IGNORE, VISION
from schemas.recipe import LlmSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

HEAD_WIDTH = 16
"""Channels a head of the tiny language model: narrow, so that a width of 64 still has four heads."""


class VideoLMM(nn.Module):
    """A causal language model (transformers) and the connector that feeds it."""

    def __init__(self, llm: nn.Module, connector: Connector) -> None:
        super().__init__()
        self.llm: Any = llm
        self.connector = connector

    def embed(self, batch: Batch) -> Tensor:
        """Embeddings `[B, L, hidden]`: vision tokens where `batch.ids` keeps places, words elsewhere.

        Raises ValueError when places and vision tokens differ in number.
        """
        embeddings: Tensor = self.llm.get_input_embeddings()(batch.ids.clamp(min=0))
        places = batch.ids == VISION
        if not batch.arrays:
            return embeddings
        vision = self.connector(batch.arrays).flatten(0, 1)
        if len(vision) != int(places.sum()):
            raise ValueError(f"{len(vision)} vision tokens for {int(places.sum())} places in the text")
        return embeddings.masked_scatter(places.unsqueeze(-1), vision.to(embeddings.dtype))

    def loss_sum(self, batch: Batch) -> Tensor:
        """Cross-entropies of the labels times their weights, summed, fp32: a scalar. Divide by the sum of weights.

        Logits are made only where a label follows. Padding is on the right, out of a causal model's sight.
        """
        apart = _apart(batch.rounds) if batch.rounds.any() else {}
        states = self.llm.model(inputs_embeds=self.embed(batch), use_cache=False, **apart).last_hidden_state
        targets = batch.labels[:, 1:]
        learnt = targets != IGNORE
        logits = self.llm.lm_head(states[:, :-1][learnt])
        losses = F.cross_entropy(logits.float(), targets[learnt], reduction="none")
        return (losses * batch.weights[:, 1:][learnt]).sum()

    @torch.no_grad()
    def answer(self, batch: Batch, end: int, pad: int, max_new_tokens: int) -> list[list[int]]:
        """Greedy continuation of each row, at most `max_new_tokens` ids, `end` included where it came."""
        order = torch.argsort(batch.mask.int(), dim=1, stable=True)  # padding to the left: answers start level
        embeddings = self.embed(batch)
        left = embeddings.gather(1, order.unsqueeze(-1).expand_as(embeddings))
        ids = self.llm.generate(
            inputs_embeds=left,
            attention_mask=batch.mask.gather(1, order).long(),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=end,
            pad_token_id=pad,
        )
        return [list(map(int, row)) for row in ids]


def _apart(rounds: Tensor) -> dict[str, Tensor]:
    """What makes rounds blind to one another: who sees whom `[B, 1, L, L] bool`, and positions `[B, L]`.

    Every round sees what comes before all rounds, and its positions go on from there.
    """
    length = rounds.shape[1]
    at = torch.arange(length, device=rounds.device)
    own, other = rounds.unsqueeze(2), rounds.unsqueeze(1)
    sees = (at.unsqueeze(1) >= at) & ((other == 0) | (other == own))
    return {"attention_mask": sees.unsqueeze(1), "position_ids": sees.sum(dim=2) - 1}


def load_llm(spec: LlmSpec, tokenizer: "Tokenizer") -> Any:
    """The language model of `spec`: tiny and random (from torch's seed), or a local folder, never remote code.

    Weights of the tiny one start with standard deviation 1/sqrt(hidden_size): outputs then have the
    variance of inputs (LeCun). The usual 0.02 fits widths near 2500; at 64 we saw it learn to ignore the video.
    """
    from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

    if spec.checkpoint != "tiny":
        return AutoModelForCausalLM.from_pretrained(
            spec.checkpoint, local_files_only=True, trust_remote_code=False, dtype=torch.float32
        )
    if spec.hidden_size % HEAD_WIDTH:
        raise ValueError(f"llm.hidden_size must be a multiple of {HEAD_WIDTH}, got {spec.hidden_size}")
    heads = spec.hidden_size // HEAD_WIDTH
    config = Qwen2Config(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=spec.hidden_size,
        intermediate_size=2 * spec.hidden_size,
        num_hidden_layers=spec.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
        initializer_range=spec.hidden_size**-0.5,
    )
    return Qwen2ForCausalLM(config)


def load_tokenizer(folder: Path) -> "Tokenizer":
    """`tokenizer.json` of a local folder. Raises FileNotFoundError that names it."""
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: llm.checkpoint is `tiny` or a folder with a fast tokenizer")
    return Tokenizer.from_file(str(path))
