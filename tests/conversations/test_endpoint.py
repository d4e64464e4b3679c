"""Laws of the engine that asks an endpoint: who is to blame for what, nothing for ever, no key in a message."""

import asyncio
import json
import pickle
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from chat_server import MODEL, ChatServer, first, reply_to, running_chat_server
from hypothesis import given
from hypothesis import strategies as st

from pipeline.conversations import endpoint
from pipeline.conversations.chat_protocol import completion_of, excerpt, request_id, retry_after_s, served_models
from pipeline.conversations.endpoint import EndpointEngine
from pipeline.conversations.engine import EngineLostError, Message, Prompt, RequestError
from schemas.base import InputError
from schemas.llm import ChatModelSpec, EngineSpec

KEY = "sk-do-not-tell-anyone"
SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 9}}}


def prompt(text="hello", key="k1"):
    return Prompt(
        key=key,
        model_sha256="0" * 64,
        messages=(Message(role="system", content="be brief"), Message(role="user", content=text)),
        answer_schema=json.dumps(SCHEMA),
        max_tokens=99,
        temperature=0.5,
        top_p=0.9,
        seed=7,
    )


def engine(url, patience_s=5.0, name=MODEL, **spec):
    settings = {"kind": "endpoint", "url": url, "max_num_seqs": 8, "stall_s": 5, **spec}
    return EndpointEngine(ChatModelSpec(name=name, model="m"), EngineSpec(**settings), patience_s=patience_s)


@pytest.fixture
def server():
    with running_chat_server() as server:
        yield server


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(endpoint, "LONGEST_WAIT_S", 0.05)


def ask(engine, *prompts):
    """Replies, or what was raised, with a fresh start and a stop."""

    async def all_of_them():
        return await asyncio.gather(*(engine.ask(each) for each in prompts), return_exceptions=True)

    engine.start()
    try:
        return asyncio.run(all_of_them())
    finally:
        engine.stop()


def test_a_prompt_goes_out_whole_and_its_reply_comes_back_under_its_name(server):
    (reply,) = ask(engine(server.url), prompt())
    assert (reply.key, reply.address, reply.text, reply.finish) == ("k1", prompt().address, "HELLO", "stop")
    assert (reply.prompt_tokens, reply.cached_tokens, reply.output_tokens) == (21, 16, 7)
    (body,) = server.bodies
    assert body.pop("messages") == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hello"},
    ]
    assert body.pop("response_format")["json_schema"] == {"name": "answer", "schema": SCHEMA, "strict": True}
    assert body == {"model": MODEL, "seed": 7, "temperature": 0.5, "top_p": 0.9, "max_tokens": 99}


def test_replies_in_any_order_come_to_those_who_asked_and_as_many_are_in_work_as_there_are_slots(server):
    together = threading.Barrier(8)

    def slow(handler, body):
        together.wait(20)
        return False

    server.before = slow
    prompts = [prompt(f"text {number}", f"k{number}") for number in range(8)]
    replies = ask(engine(server.url), *prompts)
    assert [(reply.key, reply.address, reply.text) for reply in replies] == [
        (each.key, each.address, each.messages[-1].content.upper()) for each in prompts
    ]
    assert server.most_at_once == 8
    assert len({headers["X-Request-Id"] for headers in server.headers}) == 8


def test_a_reply_that_the_server_says_is_for_another_comes_back_under_the_others_name(server):
    other = prompt("other", "k2")
    server.before = lambda handler, body: handler.answer(200, reply_to(body, request_id(other)))
    (reply,) = ask(engine(server.url), prompt())
    assert (reply.key, reply.address) == ("k2", other.address)


@pytest.mark.parametrize("told", ["chatcmpl-a-name-of-its-own", "", None, 5])
def test_a_server_with_ids_of_its_own_is_believed(told):
    answer = reply_to({"model": MODEL, "messages": [{"content": "hello"}]}, "") | {"id": told}
    assert completion_of(prompt(), json.dumps(answer).encode()).key == "k1"


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_no_loss(server, status):
    server.before = first(3, lambda handler, body: handler.error(status, "too many"))
    (reply,) = ask(engine(server.url), prompt())
    assert reply.text == "HELLO"
    assert len(server.bodies) == 4


def test_a_busy_server_is_left_alone_for_as_long_as_it_asks(server):
    server.before = first(1, lambda handler, body: handler.error(429, "too many", Retry_After="1"))
    began = time.monotonic()
    ask(engine(server.url), prompt())
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("retry_after", [{}, {"Retry_After": "3600"}])
def test_a_server_that_stays_busy_is_lost_in_the_end(server, retry_after):
    server.before = lambda handler, body: handler.error(429, "quota is used up", **retry_after)
    began = time.monotonic()
    (lost,) = ask(engine(server.url, patience_s=0.5), prompt())
    assert isinstance(lost, EngineLostError)
    assert "quota is used up" in str(lost)
    assert "0.5 s of patience" in str(lost)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "break_off",
    [
        lambda handler, body: handler.reset(),
        lambda handler, body: half(handler),
        lambda handler, body: handler.error(502, "bad gateway"),
    ],
)
def test_what_a_well_server_broke_off_is_sent_again_but_not_for_ever(server, break_off):
    server.before = first(endpoint.RESENDS, break_off)
    (reply,) = ask(engine(server.url), prompt())
    assert reply.text == "HELLO"
    server.bodies.clear()
    server.before = break_off
    (lost,) = ask(engine(server.url), prompt())
    assert isinstance(lost, EngineLostError)
    assert len(server.bodies) == 1 + endpoint.RESENDS


def half(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    return handler.reset()


def test_a_server_that_dies_of_a_request_is_lost_at_once(server):
    def die(handler, body):
        threading.Thread(target=server.die).start()
        return handler.wait_until_dropped()

    server.before = die
    began = time.monotonic()
    (lost,) = ask(engine(server.url, patience_s=60), prompt())
    assert isinstance(lost, EngineLostError)
    assert len(server.bodies) == 1, "it was not asked again"
    assert time.monotonic() - began < 10


def test_a_request_that_no_server_took_waits_for_it_and_is_asked_once(server):
    asked = engine(server.url, patience_s=20)
    asked.start()
    server.die()
    again = []
    threading.Timer(0.5, lambda: again.append(ChatServer(port=server.port))).start()
    reply = asyncio.run(asked.ask(prompt()))
    asked.stop()
    while not again:
        time.sleep(0.01)
    again[0].die()
    assert reply.text == "HELLO"
    assert len(again[0].bodies) == 1


def test_nobody_waits_for_a_server_for_ever(server):
    asked = engine(server.url, patience_s=0.5)
    asked.start()
    server.die()
    with pytest.raises(EngineLostError, match="cannot be reached"):
        asyncio.run(asked.ask(prompt()))
    with pytest.raises(EngineLostError, match="cannot be reached"):
        asked.start()


@pytest.mark.parametrize(("status", "words"), [(500, "EngineCore encountered an issue"), (424, "generation")])
def test_an_ill_server_is_lost_and_not_asked_again(server, status, words):
    server.before = lambda handler, body: handler.error(status, words)
    (lost,) = ask(engine(server.url), prompt())
    assert isinstance(lost, EngineLostError)
    assert words in str(lost)
    assert len(server.bodies) == 1


def test_a_server_that_never_answers_is_lost(server, monkeypatch):
    monkeypatch.setattr(endpoint, "READ_STALLS", 0.1)
    server.before = lambda handler, body: handler.wait_until_dropped()
    began = time.monotonic()
    (lost,) = ask(engine(server.url), prompt())
    assert isinstance(lost, EngineLostError)
    assert "no answer for 0.5 s" in str(lost)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_prompt_is_no_loss_and_says_why_within_bounds(server, status):
    server.before = first(1, lambda handler, body: handler.error(status, "too long, " * 1000))
    (refused,) = ask(engine(server.url), prompt())
    assert isinstance(refused, RequestError)
    assert "too long" in str(refused)
    assert len(str(refused)) < 500
    assert ask(engine(server.url), prompt())[0].text == "HELLO"


GOOD = reply_to({"model": MODEL, "messages": [{"content": "hello"}]}, "")


@pytest.mark.parametrize(
    "body",
    [
        b"<html>please log in</html>",
        b"",
        b"\xff\xfe\x00",
        b"[" * 5000,
        b"null",
        {"choices": []},
        {"choices": [{"message": {"content": None}, "finish_reason": "content_filter"}]},
        {"choices": [{"message": {"content": "half"}, "finish_reason": None}]},
        {"choices": [{"message": {"content": 5}, "finish_reason": "stop"}]},
        {"choices": "none"},
        b"x" * (1 << 20),
    ],
)
def test_an_answer_without_a_reply_is_refused_and_told_within_bounds(server, body):
    server.before = lambda handler, _: handler.answer(200, body)
    (refused,) = ask(engine(server.url), prompt())
    assert isinstance(refused, RequestError)
    assert len(str(refused)) < 500
    assert str(refused).isprintable()


def test_an_endless_answer_is_cut_off(server, monkeypatch):
    monkeypatch.setattr(endpoint, "MOST_BYTES", 1 << 20)

    def pour(handler, body):
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b" " * (1 << 16))

    server.before = pour
    (refused,) = ask(engine(server.url), prompt())
    assert isinstance(refused, RequestError)
    assert "larger than 1 MiB" in str(refused)


def test_a_reply_that_was_cut_off_by_its_length_says_so_and_one_that_the_server_aborted_is_a_loss():
    def with_finish(finish):
        choice = GOOD["choices"][0] | {"finish_reason": finish}
        return json.dumps(GOOD | {"choices": [choice]}).encode()

    assert completion_of(prompt(), with_finish("length")).finish == "length"
    with pytest.raises(EngineLostError, match="abort"):
        completion_of(prompt(), with_finish("abort"))


@pytest.mark.parametrize("usage", [None, {}, "many", {"prompt_tokens": -1, "prompt_tokens_details": None}])
def test_a_server_that_counts_no_tokens_is_none_the_worse(usage):
    reply = completion_of(prompt(), json.dumps(GOOD | {"usage": usage}).encode())
    assert (reply.prompt_tokens, reply.cached_tokens, reply.output_tokens) == (0, 0, 0)


@pytest.mark.parametrize("status", [401, 403, 404, 307])
def test_a_mistake_ends_the_run_and_names_url_model_and_mend(server, status):
    server.before = lambda handler, body: handler.error(status, "no", Location="http://127.0.0.1:1/")
    (told,) = ask(engine(server.url), prompt())
    assert isinstance(told, InputError)
    assert server.url in str(told)
    assert repr(MODEL) in str(told)
    assert ("key" if status in (401, 403) else "is the url the whole base") in str(told)


def test_another_model_than_the_server_has_is_told_before_anything_is_asked(server):
    server.models = ["llama", "qwen"]
    with pytest.raises(InputError, match="serves 'llama', 'qwen', not 'tiny'"):
        engine(server.url).start()


def test_what_is_no_endpoint_is_told_before_anything_is_asked(server):
    server.before_models = lambda handler: handler.answer(200, b"<html>hello</html>")
    with pytest.raises(InputError, match=r"is no OpenAI-compatible endpoint; does the url end in /v1\?"):
        engine(server.url).start()
    server.before_models = lambda handler: handler.error(400, "what do you want")
    with pytest.raises(InputError, match="what do you want"):
        engine(server.url).start()


@pytest.mark.parametrize(
    "url", ["", "host:8000", "ftp://host/v1", "http://", "http://user:secret@host/v1", "http://host:port/v1"]
)
def test_a_url_that_is_none_or_holds_a_secret_is_refused_without_showing_it(url):
    with pytest.raises(InputError, match=r"engine\.url") as told:
        engine(url).start()
    assert "secret" not in str(told.value).replace("password", "")


def test_what_stands_behind_the_path_of_the_url_goes_out_and_is_never_shown(server):
    server.before = lambda handler, body: handler.error(404, handler.path.split("?")[0])
    (told,) = ask(engine(server.url + "/?token=secret"), prompt())
    assert "/v1/chat/completions" in str(told)
    assert "secret" not in str(told)


def test_the_key_is_read_from_its_variable_and_sent():
    with running_chat_server(KEY) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_KEY", f"{KEY}\n")
        (reply,) = ask(engine(server.url, api_key_env="TEST_KEY"), prompt())
        assert reply.text == "HELLO"


def test_a_key_is_in_no_message_and_in_no_pickle(server, monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    asked = engine(server.url, api_key_env="TEST_KEY")
    assert KEY.encode() not in pickle.dumps(asked)
    for status in (400, 401, 500):
        server.before = lambda handler, body, status=status: handler.error(status, f"bad key {KEY}")
        (told,) = ask(asked, prompt())
        assert "bad key ***" in str(told)
    server.before = lambda handler, body: handler.answer(200, {"echo": KEY})
    assert KEY not in str(ask(asked, prompt())[0])
    server.key = "another"
    with pytest.raises(InputError, match=r"Bearer \*\*\*.*mend the key in TEST_KEY"):
        asked.start()


@pytest.mark.parametrize("value", [None, "", " ", "two\nlines", "schlüssel"])
def test_a_key_that_is_none_is_told_by_the_name_of_its_variable(server, monkeypatch, value):
    monkeypatch.delenv("TEST_KEY", raising=False) if value is None else monkeypatch.setenv("TEST_KEY", value)
    with pytest.raises(InputError, match="TEST_KEY") as told:
        engine(server.url, api_key_env="TEST_KEY").start()
    assert not (value or "").strip() or value not in str(told.value)


def test_a_prompt_that_is_given_up_is_given_up_by_the_server_too(server):
    server.before = lambda handler, body: handler.wait_until_dropped()
    asked = engine(server.url)
    asked.start()

    async def give_up():
        task = asyncio.ensure_future(asked.ask(prompt()))
        while not server.bodies:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        while not server.dropped:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(give_up(), 10))
    asked.stop()


def test_a_stop_ends_what_waits_also_a_start_and_the_engine_starts_again(server):
    server.before_models = lambda handler: handler.error(503, "loading")
    asked = engine(server.url, patience_s=60)
    asked.stop()
    failed = []

    def start():
        try:
            asked.start()
        except EngineLostError as error:
            failed.append(str(error))

    starting = threading.Thread(target=start)
    starting.start()
    while server.looks < 3:
        time.sleep(0.01)
    asked.stop()
    starting.join(5)
    assert failed == ["the engine was stopped"]
    with pytest.raises(EngineLostError, match="not started"):
        asyncio.run(asked.ask(prompt()))
    server.before_models = lambda _: False
    assert ask(asked, prompt())[0].text == "HELLO"
    asked.stop()


def test_the_engine_works_on_a_loop_of_another_thread_and_is_stopped_from_here(server):
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asked = engine(server.url)
    for _ in range(2):
        asked.start()
        assert asyncio.run_coroutine_threadsafe(asked.ask(prompt()), loop).result(10).text == "HELLO"
        asked.stop()
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.close()


def test_the_engine_starts_also_where_a_loop_runs(server):
    async def start_and_ask():
        asked = engine(server.url)
        asked.start()
        reply = await asked.ask(prompt())
        asked.stop()
        return reply.text

    assert asyncio.run(start_and_ask()) == "HELLO"


def test_an_engine_travels_before_its_start(server):
    assert ask(pickle.loads(pickle.dumps(engine(server.url))), prompt())[0].text == "HELLO"  # noqa: S301


NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("-7", None),
        ("9" * 400, None),
        ("9" * 5000, None),
        ("Thu, 01 Jan 2026 00:01:00 -0000", 60),
        (format_datetime(NOW.replace(minute=1), usegmt=True), 60),
        (format_datetime(NOW.replace(year=2025), usegmt=True), 0),
        (None, None),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(value, seconds):
    assert retry_after_s(value, NOW) == seconds


@given(st.binary(max_size=2000))
def test_no_bytes_break_what_reads_them(body):
    assert len(excerpt(body)) <= 303
    assert excerpt(body).isprintable()
    served_models(body)
    with pytest.raises(RequestError):
        completion_of(prompt(), body)


NAMES = ["choices", "message", "content", "error", "detail", "finish_reason", "data", "id"]
LEAVES = st.none() | st.booleans() | st.floats() | st.text()


@given(
    st.recursive(LEAVES, lambda some: st.lists(some) | st.dictionaries(st.sampled_from(NAMES), some), max_leaves=8)
)
def test_no_json_breaks_what_reads_it(value):
    body = json.dumps(value).encode()
    assert len(excerpt(body)) <= 303
    served_models(body)
    with suppress(RequestError, EngineLostError):
        completion_of(prompt(), body)
