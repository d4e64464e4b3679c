"""A Llama with random weights, a byte-level tokenizer and a chat template, written as a checkpoint folder."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SENTENCES = (
    "A man opens the door and walks into the kitchen.",
    "What happens after the dog jumps over the fence? It runs to the lake at 00:42.",
    "The red car turns left while two children wave from the pavement.",
    '{"turns":[{"role":"user","content":"Why?"},{"role":"assistant","content":"Because it rains."}]}',
)
SPECIALS = ("<|begin|>", "<|end|>", "<|role|>", "<|said|>")
TEMPLATE = (
    "<|begin|>{% for message in messages %}<|role|>{{ message['role'] }}<|said|>{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|role|>assistant<|said|>{% endif %}"
)


def make(folder: Path, vocabulary: int = 512, hidden: int = 128, layers: int = 2) -> Path:
    """Writes the checkpoint; heads are 64 wide, as vLLM's CPU attention wants them."""
    tokenizer = _tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=max(vocabulary, len(tokenizer)),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=1,
        head_dim=64,
        max_position_embeddings=16_384,
        bos_token_id=tokenizer.convert_tokens_to_ids("<|begin|>"),
        eos_token_id=tokenizer.convert_tokens_to_ids("<|end|>"),
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level: any text goes in, any token comes out as bytes."""
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bare.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bare,
        bos_token=SPECIALS[0],
        eos_token=SPECIALS[1],
        additional_special_tokens=list(SPECIALS[2:]),
        chat_template=TEMPLATE,
    )
