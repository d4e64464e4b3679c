"""The stage on the real engine: its core is killed three times, and nobody can tell from the talks."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from pipeline.conversations.model import Service
from pipeline.conversations.stage import CALLS_AT_ONCE, Converse
from pipeline.storage.places import place
from schemas.conversation import Conversation
from schemas.llm import ChatModelSpec, EngineSpec
from schemas.recipe import ConversationSpec
from schemas.rejection import Rejection
from schemas.sample import Caption, Category, Generator, MediaRef, Modality, Sample

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1500)]


def film(number):
    caption = (
        f"Person {number} opens a door, takes {number % 7 + 2} red cups from a shelf and puts them on a table."
    )
    return Sample(
        key=f"film-{number}",
        source="films",
        modality=Modality.VIDEO,
        category=list(Category)[number % len(Category)],
        media=[MediaRef(kind="video", path=f"{number}.mp4", duration_ns=10**12)],
        annotations=[Caption(text=caption)],
        licence="CC0-1.0",
        annotator=Generator(name="human"),
    )


SAMPLES = [film(number) for number in range(500)]
BATCH = 64
KILLS_AT = (60, 200, 340)
"""Talks that are there when the core is killed."""


def stage_in(folder, checkpoint):
    """Random weights know no grammar, so only the form of a talk is judged, and lengths are small."""
    model = ChatModelSpec(
        name="tiny", model=str(checkpoint), dtype="float32", max_model_len=8192, temperature=1.0, top_p=1.0
    )
    spec = ConversationSpec(
        generator="model", model=model, checks="structural", min_turns=2, max_turns=3,
        max_question_characters=40, max_answer_characters=60, tries=3,
    )  # fmt: skip
    options = {"enforce_eager": True, "kv_cache_memory_bytes": 2**28}
    service = Service(engine=EngineSpec(max_num_seqs=32, options=options), requests=str(folder / "requests"))
    return Converse(spec, 11, service)


def converse(folder, checkpoint, disturb=None):
    """All outcomes; `disturb(replies so far)` is called again and again meanwhile."""
    stage, ended = stage_in(folder, checkpoint), threading.Event()
    stage.setup()

    def watch():
        while not ended.wait(0.1):
            disturb(replies_in(folder))

    watcher = threading.Thread(target=watch)
    try:
        if disturb:
            watcher.start()
        batches = [SAMPLES[start : start + BATCH] for start in range(0, len(SAMPLES), BATCH)]
        with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
            return [outcome for outcomes in pool.map(stage.process, batches) for outcome in outcomes]
    finally:
        ended.set()
        if disturb:
            watcher.join()
        stage.close()


def replies_in(folder):
    from pipeline.conversations.cache import RequestCache

    return RequestCache(place(str(folder / "requests"))).usage().requests


def core():
    """The engine's process, where there is one."""
    below = psutil.Process().children()
    return next((each for each in below if each.name().startswith("VLLM") and each.status() != "zombie"), None)


def test_five_hundred_talks_are_the_same_though_the_core_is_killed_three_times(tiny_model, tmp_path):
    undisturbed = converse(tmp_path / "calm", tiny_model)
    killed = []

    def kill(replies):
        if len(killed) < len(KILLS_AT) and replies >= KILLS_AT[len(killed)] and (found := core()):
            killed.append(found.pid)
            found.kill()

    outcomes = converse(tmp_path / "killed", tiny_model, kill)
    assert len(killed) == len(KILLS_AT)
    assert [outcome.key for outcome in outcomes] == [sample.key for sample in SAMPLES]
    assert all(isinstance(outcome, Conversation | Rejection) for outcome in outcomes)
    assert outcomes == undisturbed
    valid = sum("schema" not in outcome.effort.faults for outcome in outcomes)
    assert valid >= 0.99 * len(SAMPLES)
    assert core() is None

    begin = time.monotonic()  # all is in the cache: no engine is started
    assert converse(tmp_path / "killed", tiny_model) == outcomes
    assert time.monotonic() - begin < 60
