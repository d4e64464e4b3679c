"""A tiny model for the real engine, and what asks it."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.conversations.engine import Completion, Prompt
from pipeline.conversations.vllm_engine import VllmEngine
from schemas.llm import ChatModelSpec, EngineSpec

KV_CACHE_BYTES = 2**28


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """Folder of a checkpoint with random weights."""
    import tiny_llama  # loads torch, which a run without these tests need not

    return tiny_llama.make(tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture(scope="session")
def engine_for() -> Iterator[Callable[[Path], VllmEngine]]:
    """Makes engines for a folder, not yet started; all are stopped in the end."""
    made: list[VllmEngine] = []

    def make(folder: Path) -> VllmEngine:
        model = ChatModelSpec(
            name="tiny", model=str(folder), dtype="float32", max_model_len=2048, temperature=1.0, top_p=1.0
        )
        options = {"enforce_eager": True, "kv_cache_memory_bytes": KV_CACHE_BYTES}
        made.append(VllmEngine(model, EngineSpec(max_num_seqs=32, options=options)))
        return made[-1]

    yield make
    for engine in made:
        engine.stop()


Answer = Completion | BaseException


@pytest.fixture(scope="session")
def run() -> Iterator[Callable[[Any], Any]]:
    """Runs a coroutine on the one event loop of all tests: an engine keeps to the loop it began with."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="session")
def ask_all(run) -> Callable[..., list[Answer]]:
    """Answers or errors of prompts, in their order; `at_once` are in flight."""

    async def ask(engine: VllmEngine, prompts: Sequence[Prompt], at_once: int) -> list[Answer]:
        free = asyncio.Semaphore(at_once)

        async def one(prompt: Prompt) -> Completion:
            async with free:
                return await engine.ask(prompt)

        return await asyncio.gather(*map(one, prompts), return_exceptions=True)

    return lambda engine, prompts, at_once=36: run(ask(engine, prompts, at_once))
