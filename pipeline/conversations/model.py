"""The generator `model`: a chat model writes the talk, each reply by way of the request cache.

    sample -> Request -> Prompt -> Asker (cache, engine, replaced when lost) -> Completion -> rules -> Reply

What is refused is asked for again with another seed; the sample is given up when its tries are used up.
"""

from collections.abc import Callable, Mapping, Sequence

from pipeline.conversations.allowance import Allowance
from pipeline.conversations.asking import Asker
from pipeline.conversations.cache import RequestCache
from pipeline.conversations.engine import Engine
from pipeline.conversations.generator import ConversationGenerator, Refusal, Reply, Request
from pipeline.conversations.writing import Writing, write
from pipeline.storage.places import place
from schemas.base import Record
from schemas.llm import AllowanceSpec, ChatModelSpec, EngineSpec
from schemas.recipe import ConversationSpec


class Service(Record):
    """What serves the chat model: it changes no word of what is written."""

    engine: EngineSpec
    allowance: AllowanceSpec = AllowanceSpec()
    requests: str
    """Folder of the request cache, which all workers and all runs share."""
    workers: int = 1
    """That spend the allowance side by side: each may spend its part of what is left when it begins."""


class ModelGenerator(ConversationGenerator):
    """For any number of threads: the engine is kept full while one batch ends and the next begins."""

    def __init__(self, spec: ConversationSpec, service: Service, engine: Engine | None = None) -> None:
        """`engine` stands in for the one that `service` names."""
        self._writing = Writing.of(spec)
        self._service = service
        self._engine = engine or build_engine(self._writing.model, service.engine)
        self._asker: Asker | None = None

    def setup(self) -> None:
        """Opens the cache. The engine starts with the first request that is not in there."""
        cache = RequestCache(place(self._service.requests))
        self._asker = Asker(
            self._engine, cache, stall_s=self._service.engine.stall_s, allowance=self._allowance(cache)
        )

    def generate(self, requests: Sequence[Request]) -> Sequence[Reply | Refusal]:
        """One reply a request, in the same order, or all that was tried in vain."""
        if self._asker is None:
            raise RuntimeError("call setup() first")
        ask, writing = self._asker.ask, self._writing
        return self._asker.run(write(request, ask, writing) for request in requests)

    def close(self) -> None:
        """Ends the engine; replies that came are kept."""
        if self._asker:
            self._asker.close()

    def _allowance(self, cache: RequestCache) -> Allowance:
        allowed, workers = self._service.allowance, self._service.workers
        spent = cache.usage()
        used = spent.prompt_tokens + spent.output_tokens
        paid = float(allowed.cost_usd(spent.prompt_tokens, spent.output_tokens))
        tokens = None if allowed.tokens is None else used + max(0, allowed.tokens - used) // workers
        usd = None if allowed.usd is None else paid + max(0.0, allowed.usd - paid) / workers
        return Allowance(tokens, usd, allowed.usd_per_million_input, allowed.usd_per_million_output, spent=spent)


def _vllm(model: ChatModelSpec, spec: EngineSpec) -> Engine:
    from pipeline.conversations.vllm_engine import VllmEngine

    return VllmEngine(model, spec)


def _endpoint(model: ChatModelSpec, spec: EngineSpec) -> Engine:
    from pipeline.conversations.endpoint import EndpointEngine

    return EndpointEngine(model, spec)


ENGINES: Mapping[str, Callable[[ChatModelSpec, EngineSpec], Engine]] = {"vllm": _vllm, "endpoint": _endpoint}
"""By `EngineSpec.kind`."""


def build_engine(model: ChatModelSpec, spec: EngineSpec) -> Engine:
    """The engine that `spec` names, not started."""
    return ENGINES[spec.kind](model, spec)
