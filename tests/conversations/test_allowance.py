"""Laws of the cap: nothing begins that could pass it, and a raised one pays nothing twice."""

import pytest
from fake_engine import FakeEngine, make_prompt, reply_to
from hypothesis import given
from hypothesis import strategies as st

from pipeline.conversations.allowance import Allowance, AllowanceError, worst_tokens
from pipeline.conversations.asking import Asker
from pipeline.conversations.cache import RequestCache, Usage
from pipeline.runtime.contract import BudgetError

PROMPTS = [make_prompt(number) for number in range(10)]
PAID = reply_to(PROMPTS[0]).prompt_tokens + reply_to(PROMPTS[0]).output_tokens
WORST = sum(worst_tokens(PROMPTS[0]))


@given(st.integers(0, 500), st.integers(0, 5_000), st.text(max_size=40))
def test_a_request_begins_up_to_the_very_edge_and_not_a_token_beyond(spent, left, words):
    prompt = make_prompt(1, words=words)
    usage = Usage(prompt_tokens=spent)
    assert Allowance(tokens=spent + left, spent=usage).admits(prompt) == (sum(worst_tokens(prompt)) <= left)


def test_money_is_counted_exactly():
    asked, answered = worst_tokens(PROMPTS[0])
    edge = (asked * 3 + answered * 7) / 10**7
    rates = {"usd_per_million_input": 0.3, "usd_per_million_output": 0.7}
    assert Allowance(usd=edge, **rates).admits(PROMPTS[0])
    assert not Allowance(usd=edge - 1e-7, **rates).admits(PROMPTS[0])
    spent = Usage(prompt_tokens=1)
    assert not Allowance(usd=edge, spent=spent, **rates).admits(PROMPTS[0])
    assert Allowance(usd=0.0, spent=spent).admits(PROMPTS[0])


def test_what_is_in_flight_counts_at_its_most_until_it_ends():
    allowance = Allowance(tokens=2 * WORST)
    allowance.begin(PROMPTS[0])
    assert allowance.admits(PROMPTS[1])
    allowance.begin(PROMPTS[1])
    assert not allowance.admits(PROMPTS[2])
    allowance.end(PROMPTS[0])
    assert allowance.admits(PROMPTS[2])
    allowance.end(PROMPTS[1], reply_to(PROMPTS[1]))
    assert allowance.spent == Usage(requests=1, prompt_tokens=10, cached_tokens=4, output_tokens=25)


def run(folder, allowance, engine):
    cache = RequestCache(folder)
    with Asker(engine, cache, stall_s=5, commit_s=0.002, allowance=allowance) as asker:
        return asker.run(asker.ask(prompt) for prompt in PROMPTS)


@pytest.mark.parametrize("slots", [1, 4])
def test_a_run_that_meets_its_cap_keeps_all_that_it_paid_for_and_a_higher_cap_goes_on_from_there(tmp_path, slots):
    cap = 4 * PAID + WORST  # the fifth just fits, the sixth does not
    first = FakeEngine(slots)
    told = f"spent {5 * PAID} of {cap} tokens on 5 replies.*raise the cap"
    with pytest.raises(AllowanceError, match=told) as raised:
        run(tmp_path, Allowance(tokens=cap), first)
    assert isinstance(raised.value, BudgetError)
    used = RequestCache(tmp_path).usage()
    assert (used.requests, used.prompt_tokens + used.output_tokens) == (5, 5 * PAID)
    with pytest.raises(AllowanceError, match="on 5 replies"):
        run(tmp_path, Allowance(tokens=cap, spent=used), idle := FakeEngine(slots))
    assert idle.starts == 0
    second = FakeEngine(slots)
    found = run(tmp_path, Allowance(tokens=9 * PAID + WORST, spent=used), second)
    assert found == [reply_to(prompt) for prompt in PROMPTS]
    assert (first.asked + second.asked).total() == len(PROMPTS)


def test_a_lost_engine_gives_back_what_its_prompts_might_have_cost(tmp_path):
    engine = FakeEngine(1, killed={prompt.address for prompt in PROMPTS[:3]})
    found = run(tmp_path, Allowance(tokens=9 * PAID + WORST), engine)
    assert found == [reply_to(prompt) for prompt in PROMPTS]
