"""vLLM in this process's hands: it loads the chat model, keeps its batch full, and is killed and started again.

    engine = VllmEngine(CHAT_PRESETS["llama-3.1-8b-instruct"].model, CHAT_PRESETS["llama-3.1-8b-instruct"].engine)

vLLM's AsyncLLM lives here, its core and its workers in processes below, so that what kills them leaves us alive.
Each start makes a new AsyncLLM, which binds itself to the event loop of its first `ask`.
"""

import asyncio
import contextlib
import multiprocessing
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pipeline.conversations.engine import Completion, Engine, EngineLostError, Prompt, RequestError, need_vllm
from pipeline.conversations.processes import OWNER, end, family
from schemas.base import InputError
from schemas.llm import ChatModelSpec, EngineSpec

if TYPE_CHECKING:
    import psutil

WATCH_S = 1.0
"""Between two looks whether the engine of a prompt in flight still lives."""
ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a fork of a process with threads hangs at times
    "TOKENIZERS_PARALLELISM": "false",
}
"""Of vLLM, where the user's own environment says nothing else."""
STRUCTURED = {"backend": "guidance", "disable_any_whitespace": True}
"""Only this pair kept random weights to a schema in every reply: others write white space, or raw control
characters into strings, until they are cut off."""
QUANTIZATIONS = {"": None, "fp8": "fp8_per_tensor"}
"""vLLM's names for what it does to a checkpoint while it loads."""
ON_CPU = {"enable_chunked_prefill": False}
"""Where a step takes a part of a prompt that has a seed, vLLM 0.32 winds its generator back, which a CPU's cannot:
the core dies ("CPU Generator does not use offset")."""

_STARTING = threading.Lock()
"""One start at a time in a process: the cores that appear meanwhile are this start's."""


class VllmEngine(Engine):
    """A model on vLLM. `ask` runs on one event loop from each `start` to the next."""

    def __init__(self, model: ChatModelSpec, engine: EngineSpec) -> None:
        self._model = model
        self._spec = engine
        # Some wait in vLLM's queue, so that a place that falls free is taken in the very next step.
        self.slots = engine.max_num_seqs + max(2, engine.max_num_seqs // 8)
        self._llm: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._family: set[psutil.Process] = set()
        self._foreign: set[int] | None = None
        """While it starts: cores that were there before."""
        self._tries = 0

    def start(self) -> None:
        """Loads the model, which takes from seconds to minutes. Raises InputError, EngineLostError."""
        self.stop()
        need_vllm()
        with _STARTING:
            _settle_environment(self._spec)
            config = self._config()
            self._foreign = _cores()
            try:
                self._llm = _launch(config)
                self._family = family(_cores() - self._foreign)
            finally:
                if self._llm is None:
                    self.stop()
                self._foreign = None
        self._loop = None

    def _config(self) -> Any:
        from vllm import AsyncEngineArgs
        from vllm.platforms import current_platform

        platform = ON_CPU if current_platform.is_cpu() else {}
        try:
            return AsyncEngineArgs(**platform | engine_arguments(self._model, self._spec)).create_engine_config()
        except (TypeError, ValueError) as error:
            raise InputError(f"vLLM refuses {self._model.model!r} with {self._spec.options}: {error}") from error
        except OSError as error:
            raise EngineLostError(f"cannot load {self._model.model!r}: {error}") from error

    async def ask(self, prompt: Prompt) -> Completion:
        """The reply. Raises RequestError, EngineLostError."""
        llm = self._llm
        if llm is None:
            raise EngineLostError("vLLM is not running")
        self._keep_to_one_loop()
        answer = asyncio.ensure_future(self._generate(llm, prompt))
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())  # heard, also if nobody waits
        try:
            # A core can die at moments when vLLM tells nobody who waits: so look.
            while not (await asyncio.wait([answer], timeout=WATCH_S))[0]:
                if llm.errored or self._llm is not llm:
                    raise EngineLostError("vLLM's core ended under the prompt")
            return answer.result()
        finally:
            answer.cancel()

    def _keep_to_one_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            raise RuntimeError("vLLM keeps to the event loop of its first prompt: ask on that, or start it again")
        self._loop = loop

    async def _generate(self, llm: Any, prompt: Prompt) -> Completion:
        self._tries += 1
        address = prompt.address
        name = f"{prompt.key}:{address[:16]}:{self._tries}"
        with _errors_apart(llm):
            tokens = self._tokens(llm, prompt)
            async for output in llm.generate(tokens, _sampling(prompt), name):
                last = output
        if last.request_id != name:
            raise RuntimeError(f"vLLM answered {last.request_id} to {name}")
        return _completion(last, address)

    def _tokens(self, llm: Any, prompt: Prompt) -> Any:
        from vllm.inputs.engine import tokens_input

        messages = [message.model_dump() for message in prompt.messages]
        tokens: list[int] = llm.get_tokenizer().apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        if len(tokens) + prompt.max_tokens > self._model.max_model_len:
            raise RequestError(
                f"{len(tokens)} tokens of prompt and {prompt.max_tokens} of reply are more than "
                f"max_model_len, {self._model.max_model_len}"
            )
        return tokens_input(tokens)

    def stop(self) -> None:
        """Ends core and workers by force. Raises EngineLostError if one does not end."""
        llm, self._llm = self._llm, None
        known = {process.pid for process in self._family if process.is_running()}
        if self._foreign is not None:
            known |= _cores() - self._foreign
        relatives = self._family | family(known)
        try:
            if llm is not None:
                llm.shutdown(timeout=0)  # an orderly end takes it ten seconds, and there is nothing to save
        finally:
            self._family = set(end(relatives))
        multiprocessing.active_children()  # takes note of those that ended
        if self._family:
            raise EngineLostError(f"processes of vLLM do not end: {sorted(each.pid for each in self._family)}")


def engine_arguments(model: ChatModelSpec, engine: EngineSpec) -> dict[str, Any]:
    """What AsyncEngineArgs is given; `engine.options` have the last word."""
    return {
        "model": model.model,
        "revision": model.revision or None,
        "dtype": model.dtype,
        "quantization": QUANTIZATIONS[model.quantization],
        "max_model_len": model.max_model_len,
        "tensor_parallel_size": engine.tensor_parallel,
        # Left to itself, vLLM in a Ray actor asks Ray for GPUs again, which the actor holds already.
        "distributed_executor_backend": "mp" if engine.tensor_parallel > 1 else None,
        "max_num_seqs": engine.max_num_seqs,
        "gpu_memory_utilization": engine.gpu_memory_utilization,
        "enable_prefix_caching": engine.prefix_caching,
        "structured_outputs_config": dict(STRUCTURED),
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        **engine.options,
    }


def _settle_environment(engine: EngineSpec) -> None:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ["VLLM_BATCH_INVARIANT"] = str(int(engine.batch_invariant))
    os.environ[OWNER] = str(os.getpid())


def _cores() -> set[int]:
    """Processes that vLLM started from this one, by its name for them."""
    return {
        child.pid
        for child in multiprocessing.active_children()
        if child.name.startswith("EngineCore") and child.pid
    }


def _launch(config: Any) -> Any:
    from vllm.exceptions import VLLMError
    from vllm.v1.engine.async_llm import AsyncLLM

    try:
        llm = AsyncLLM.from_vllm_config(config, disable_log_stats=True)
    except (VLLMError, RuntimeError, TimeoutError, OSError) as error:
        raise EngineLostError(f"vLLM does not start: {error}") from error
    if getattr(llm.get_tokenizer(), "chat_template", None) is None:
        llm.shutdown(timeout=0)
        raise InputError(f"{config.model_config.model!r} has no chat template: take an instruct model")
    return llm


@contextlib.contextmanager
def _errors_apart(llm: Any) -> Iterator[None]:
    """What a prompt did wrong becomes a RequestError, what befell the engine an EngineLostError."""
    from jinja2 import TemplateError
    from vllm.exceptions import VLLMClientError
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    of_the_prompt = (VLLMClientError, ValueError, TypeError, NotImplementedError, TemplateError)
    try:
        yield
    except of_the_prompt as error:
        raise RequestError(f"vLLM refused the prompt: {error}") from error
    except EngineDeadError as error:
        raise EngineLostError("vLLM's core died") from error
    except EngineGenerateError as error:
        if isinstance(error.__cause__, of_the_prompt) and not llm.errored:
            raise RequestError(f"vLLM refused the prompt: {error.__cause__}") from error
        raise EngineLostError(f"vLLM failed: {error.__cause__}") from error


def _sampling(prompt: Prompt) -> Any:
    from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

    return SamplingParams(
        temperature=prompt.temperature,
        top_p=prompt.top_p,
        max_tokens=prompt.max_tokens,
        seed=prompt.seed,
        structured_outputs=StructuredOutputsParams(json=prompt.answer_schema) if prompt.answer_schema else None,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _completion(output: Any, address: str) -> Completion:
    """Of vLLM's last word on a prompt; the key is the one that came back."""
    (answer,) = output.outputs
    if answer.finish_reason not in ("stop", "length"):
        raise EngineLostError(f"vLLM ended {output.request_id} without an answer: {answer.finish_reason}")
    return Completion(
        key=output.request_id.partition(":")[0],
        address=address,
        text=answer.text,
        finish=answer.finish_reason,
        prompt_tokens=len(output.prompt_token_ids),
        cached_tokens=output.num_cached_tokens or 0,
        output_tokens=len(answer.token_ids),
    )
