"""A build whose talks a chat model writes: what it refuses is replaced, copies too, and all of it is told."""

import shutil
from pathlib import Path

import pytest
from mini import contents, mini_recipe, write_recipe
from rich.console import Console
from writing_engine import WritingEngine

import flows.build
import flows.calibrate as calibration
from flows.build import Build
from flows.display import Display
from flows.planning import plan_counted
from flows.recipe_file import load_recipe
from pipeline.conversations import model
from pipeline.conversations.stage import Converse
from pipeline.runtime.local import LocalRunner
from schemas.base import InputError
from schemas.ledger import Ledger
from schemas.llm import EngineSpec
from schemas.rejection import Reason

TOTAL = 12


def recipe_in(folder, **changes):
    data = mini_recipe(folder)
    data["sources"] = [{"kind": "shapes", "videos": 20, "heldout": 0}, data["sources"][1]]
    data["mixture"] = {"total": TOTAL, "shares": {"text": 25, "video": 75}}
    data["budgets"] = {"conversations": 0.5}
    chat = {"name": "writer", "model": "nowhere/writer"}
    data["conversations"] = {"generator": "model", "model": chat, "checks": "structural", "tries": 2}
    data["conversations"] |= {
        "min_turns": 32,
        "max_turns": 32,
    }  # so much that a film's own pairs are little beside it
    data["runtime"] |= {"engine": {"kind": "vllm"}, **changes}
    return load_recipe(str(write_recipe(folder, data)))


def build(recipe, engine, monkeypatch):
    monkeypatch.setitem(model.ENGINES, "vllm", lambda *_: engine)
    monkeypatch.setattr(flows.build, "need_engine", lambda _: None)
    running = Build(recipe, LocalRunner(), Display(Console(quiet=True)))
    running.run()
    return running


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A build in which every talk was accepted at once."""
    engine = WritingEngine()
    recipe = recipe_in(tmp_path_factory.mktemp("undisturbed"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        build(recipe, engine, monkeypatch)
    return recipe, engine


def test_written_talks_are_counted_and_shown(undisturbed):
    recipe, engine = undisturbed
    out = Path(recipe.output)
    ledger, asked = Ledger.read(out), len(engine.asked)
    assert asked > 5
    # Of texts no model is asked, as they show nothing, nor where a film's own pairs fill the talk.
    assert ledger.by_generator["train/writer"].samples == asked
    assert ledger.by_generator["train/template"].samples == TOTAL - asked
    assert (ledger.written.model, ledger.written.asked, ledger.written.accepted) == ("writer", asked, (asked, 0))
    assert (ledger.written.prompt_tokens, ledger.written.output_tokens) == (100 * asked, 20 * asked)
    page = (out / "talks.html").read_text()
    assert f"writer was asked about {asked} samples" in page
    assert "No reply was refused." in page


def test_a_plan_foresees_the_talks_that_the_build_then_asks_for(undisturbed):
    recipe, engine = undisturbed
    planned = Build(recipe, LocalRunner(), Display(Console(quiet=True)))
    planned.ingest(only_plan=True)
    planned.plan()
    told = plan_counted(recipe, planned.first_choice(), planned.quotas, None)
    assert told.total.talks == len(engine.asked)
    assert told.total.prompt_tokens > 0
    assert any("tokens of talks are estimated" in note for note in told.notes)


def test_what_is_refused_or_a_copy_is_replaced_and_the_shares_stay_exact(undisturbed, tmp_path, monkeypatch):
    recipe, first = undisturbed
    mute, slow, *twins = list(first.asked)[:4]
    engine = WritingEngine(mute={mute}, slow_to_learn={slow}, twins=twins)
    other = recipe.model_copy(update={"workspace": str(tmp_path / "ws2"), "output": str(tmp_path / "out2")})
    running = build(other, engine, monkeypatch)
    ledger = Ledger.read(tmp_path / "out2")
    assert ledger.by_modality["train/text"].samples == 3
    assert ledger.by_modality["train/video"].samples == 9
    assert ledger.rejected == {"conversations/invalid_conversation": 1, "conversations/near_copy": 1}
    (copy,) = (r for r in running.rejections.values() if r.reason is Reason.NEAR_COPY)
    assert copy.key in twins
    (original,) = set(twins) - {copy.key}
    assert original in copy.detail
    accepted = len(engine.asked) - 1
    assert (ledger.written.asked, ledger.written.accepted) == (accepted + 1, (accepted - 1, 1))
    assert (ledger.written.faults, ledger.written.copies) == ({"schema": 3}, 1)
    (given_up,) = (r for r in running.rejections.values() if r.reason is Reason.INVALID_CONVERSATION)
    assert [line[:14] for line in given_up.detail.splitlines()] == ["try 1: schema:", "try 2: schema:"]
    talk = next(flow for flow in ledger.flows if flow.stage == "conversations")
    assert (talk.inputs, talk.outputs, talk.rejected, talk.filtered) == (14, 12, 2, 0)


def test_what_was_generated_is_never_asked_for_again(undisturbed, tmp_path, monkeypatch):
    """Not by another build in the same workspace, which writes the same talks into another mixture."""
    recipe, _ = undisturbed
    engine = WritingEngine()
    workspace = tmp_path / "workspace"
    shutil.copytree(recipe.workspace, workspace)
    for stage in ("conversations", "features", "shards", "report"):  # all that was made of the replies
        shutil.rmtree(workspace / stage)
    again = recipe.model_copy(update={"workspace": str(workspace), "output": str(tmp_path / "out")})
    build(again, engine, monkeypatch)
    assert not engine.asked
    assert contents(tmp_path / "out") == contents(Path(recipe.output))


def test_talks_that_are_swapped_after_they_came_are_found_by_the_audit(tmp_path, monkeypatch):
    real = Converse.process

    def swapped(stage, batch):
        talks = list(real(stage, batch))
        turns, texts = [t.turns for t in talks], [t.text_sha256 for t in talks]
        mixed = zip(talks, turns[1:] + turns[:1], texts[1:] + texts[:1], strict=True)
        return [talk.model_copy(update={"turns": said, "text_sha256": text}) for talk, said, text in mixed]

    monkeypatch.setattr(Converse, "process", swapped)
    running = build(recipe_in(tmp_path), WritingEngine(), monkeypatch)
    assert running.findings.finding_counts["text_unbound"] == TOTAL
    assert not (tmp_path / "out" / "ledger.json").exists()


def test_calibration_measures_the_engine_with_the_builds_own_prompts(undisturbed, monkeypatch):
    recipe, first = undisturbed
    planned = Build(recipe, LocalRunner(), Display(Console(quiet=True)))
    planned.ingest(only_plan=True)
    planned.plan()
    engine = WritingEngine()
    monkeypatch.setitem(model.ENGINES, "vllm", lambda *_: engine)
    monkeypatch.setattr("pipeline.conversations.engine.find_spec", lambda _: True)
    rates = calibration.calibrate(recipe, planned.first_choice(), planned.roots)
    assert set(engine.asked) == set(first.asked)
    assert rates.generate_device_s.prompt_token + rates.generate_device_s.reply_token > 0
    assert rates.generator == "nowhere/writer auto"
    told = plan_counted(recipe, planned.first_choice(), planned.quotas, rates)
    assert told.total.generate_device_h > 0
    with pytest.raises(
        InputError, match="rates of generation are those of other fp8, the recipe's is nowhere/writer"
    ):
        plan_counted(recipe, [], planned.quotas, rates.model_copy(update={"generator": "other fp8"}))


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        ({"kind": "vllm"}, "vLLM is not installed"),
        ({"kind": "endpoint", "url": "http://h:1/v1"}, "generate_device_s"),
    ],
)
def test_calibration_says_why_generation_is_not_measured(undisturbed, monkeypatch, engine, reason):
    recipe, _ = undisturbed
    runtime = recipe.runtime.model_copy(update={"engine": EngineSpec(**engine)})
    monkeypatch.setattr("pipeline.conversations.engine.find_spec", lambda _: None)
    assert reason in calibration.not_measured(recipe.model_copy(update={"runtime": runtime}))
    assert not calibration.not_measured(load_recipe("demo"))
