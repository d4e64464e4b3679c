"""What of the vLLM engine needs no vLLM; its work is tested on the real one (`real/`)."""

import asyncio
import importlib.metadata
import pickle
import subprocess
import sys

import pytest

from pipeline.conversations.engine import EngineLostError, Message, Prompt
from pipeline.conversations.processes import end_with_owner
from pipeline.conversations.vllm_engine import VllmEngine, engine_arguments
from schemas.base import sha256_text
from schemas.llm import ChatModelSpec, EngineSpec

MODEL = ChatModelSpec(name="tiny", model="nowhere", revision="", quantization="fp8", max_model_len=2048)


def test_an_engine_crosses_to_its_worker_before_it_starts():
    engine = pickle.loads(pickle.dumps(VllmEngine(MODEL, EngineSpec(max_num_seqs=64))))  # noqa: S301
    assert engine.slots == VllmEngine(MODEL, EngineSpec(max_num_seqs=64)).slots


@pytest.mark.parametrize("seqs", [1, 16, 256, 8192])
def test_a_few_more_than_the_batch_holds_are_in_flight(seqs):
    assert seqs + 2 <= VllmEngine(MODEL, EngineSpec(max_num_seqs=seqs)).slots <= seqs + 2 + seqs // 8


def test_specs_reach_vllm_under_its_names_and_options_have_the_last_word():
    spec = EngineSpec(tensor_parallel=4, options={"enforce_eager": True, "max_model_len": 512})
    arguments = engine_arguments(MODEL, spec)
    assert arguments["quantization"] == "fp8_per_tensor"
    assert arguments["revision"] is None
    assert (arguments["tensor_parallel_size"], arguments["enforce_eager"]) == (4, True)
    assert arguments["distributed_executor_backend"] == "mp"
    assert engine_arguments(MODEL, EngineSpec())["distributed_executor_backend"] is None
    assert arguments["max_model_len"] == 512
    assert arguments["structured_outputs_config"] == {"backend": "guidance", "disable_any_whitespace": True}


def test_an_engine_that_is_not_started_says_so_and_stops_harmlessly():
    engine = VllmEngine(MODEL, EngineSpec())
    engine.stop()
    engine.stop()
    prompt = Prompt(
        key="k",
        model_sha256=sha256_text(""),
        messages=(Message(role="user", content="Hello."),),
        answer_schema="{}",
        max_tokens=1,
        temperature=0,
        top_p=1,
        seed=0,
    )
    with pytest.raises(EngineLostError, match="not running"):
        asyncio.run(engine.ask(prompt))


def test_the_module_loads_neither_vllm_nor_torch():
    code = "import sys, pipeline.conversations.vllm_engine; print({'vllm', 'torch', 'psutil'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "set()\n"


def test_vllm_finds_the_plugin_that_ends_its_processes_with_us():
    plugins = importlib.metadata.entry_points(group="vllm.general_plugins")
    assert plugins["mixture_end_with_owner"].load() is end_with_owner
