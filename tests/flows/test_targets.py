"""Targets that a recipe can state: in other units than samples, by category, bounded, repeated. Built, audited."""

import json
from collections import Counter
from fractions import Fraction
from pathlib import Path

import mini
import pytest
from rich.console import Console
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from flows.build import Build
from flows.display import Display
from pipeline.audit.audit import audit
from pipeline.runtime.local import LocalRunner
from pipeline.shards.reader import ShardReader
from schemas.ledger import Ledger
from schemas.recipe import Recipe

SHARES = {"text": 10, "image": 30, "video": 60}


def build_of(data: dict, amend: bool = False) -> Build:
    """A build of this recipe, in this process, that shows nothing."""
    return Build(Recipe.model_validate(data), LocalRunner(), Display(Console(quiet=True)), amend)


def built(folder: Path, mixture: dict, **changes: object) -> tuple[Ledger, Path]:
    """A mini mixture of these targets, and its folder; its audit is green."""
    build = build_of(mini.mini_recipe(folder, mixture=mixture, **changes))
    build.run()
    assert build.findings.ok, build.findings.verdict
    out = Path(build.recipe.output)
    assert audit(out).ok
    return Ledger.read(out), out


def words_tokenizer(path: Path) -> Path:
    """One token a word or mark."""
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))  # noqa: S106 - a word, no secret
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(path))
    return path


def samples(out: Path) -> list:
    reader = ShardReader(out, "train")
    return [reader.read(position, ()).sample for position in range(len(reader))]


AMOUNTS = {
    "turns": lambda s: len(s.conversations),
    "llm_tokens": lambda s: sum(len(Whitespace().pre_tokenize_str(t.content)) for t in s.conversations),
    "visual_tokens": lambda s: 8 * sum(len(clip.t_ns) for clip in s.clips),
    "seconds": lambda s: sum((m.exclusive_end_ns or m.duration_ns) - m.start_ns for m in s.media),
}


@pytest.mark.parametrize(
    ("unit", "total", "shares"),
    [
        pytest.param("turns", 100, SHARES, marks=pytest.mark.slow),
        ("llm_tokens", 400, SHARES),
        pytest.param("visual_tokens", 800, {"image": 10, "video": 90}, marks=pytest.mark.slow),
        pytest.param("seconds", 30, {"video": 100}, marks=pytest.mark.slow),
        pytest.param("bytes", 300_000, {"text": 2, "image": 28, "video": 70}, marks=pytest.mark.slow),
    ],
)
def test_shares_hold_in_every_unit_to_the_last_sample_of_a_stratum(tmp_path, unit, total, shares):
    path = words_tokenizer(tmp_path / "words.json")
    mixture = {"total": total, "unit": unit, "shares": shares, "tokens_per_frame": 8}
    ledger, out = built(tmp_path, mixture, conversations={"tokenizer": str(path)})
    whole = total * (10**9 if unit == "seconds" else 1)
    assert sum(row.target for row in ledger.asked) == whole
    found = samples(out)
    for row in ledger.asked:
        modality = row.stratum.split("/")[1]
        assert abs(row.target - whole * Fraction(str(shares[modality])) / 100) < 1
        own = [sample for sample in found if sample.modality == modality]
        if unit != "bytes":
            amounts = [AMOUNTS[unit](sample) for sample in own]
            assert row.measured == sum(amounts)
            # The first that reach the target, and not one more.
            assert 0 <= row.measured - row.target < max(amounts)
        assert len(own) == row.asked == row.found
        assert row.measured >= row.target
    assert ledger.total["train"].llm_tokens == sum(map(AMOUNTS["llm_tokens"], found)) > 0
    assert (out / "tokenizer.json").read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_what_is_chosen_by_turns_does_not_depend_on_what_the_others_were_thought_to_be(tmp_path, monkeypatch):
    mixture = {"total": 100, "unit": "turns", "shares": SHARES}
    keys = []
    for number, guess in enumerate((1, 50)):
        monkeypatch.setattr("flows.measuring.estimated", lambda *_, guess=guess: guess)
        ledger, out = built(tmp_path / str(number), mixture)
        keys.append([sample.key for sample in samples(out)])
        flows = {flow.stage: flow for flow in ledger.flows}
        if guess == 1:  # every talk is longer than thought: many are spoken that are not encoded
            assert flows["conversations"].filtered > 0
    assert keys[0] == keys[1]


def test_a_source_that_does_not_suffice_is_named_with_its_unit_and_the_greatest_total(tmp_path):
    recipe = mini.mini_recipe(tmp_path, mixture={"total": 500, "unit": "seconds", "shares": {"video": 100}})
    build = build_of(recipe)
    with pytest.raises(
        ValueError, match=r"train/video/shapes has candidates of [\d.]+ seconds for a quota of 500 s"
    ):
        build.run()
    best = 0
    try:
        build.plan()
    except ValueError as error:
        best = int(str(error).split("can meet is ")[1].split(";")[0])
    recipe["mixture"]["total"] = best
    again = build_of(recipe)
    again.ingest(only_plan=True)
    again.plan()
    assert 30 <= best < 500


def test_a_source_that_runs_out_while_it_is_worked_on_is_named_with_what_it_came_to(tmp_path):
    recipe = mini.mini_recipe(tmp_path, mixture={"total": 5_000, "unit": "turns", "shares": SHARES})
    build = build_of(recipe)
    with pytest.raises(
        ValueError, match=r"needs 500 turns, but the 16 of its 16 candidates that survived come to 32"
    ):
        build.run()


def test_categories_of_a_source_have_exact_shares_within_it(tmp_path):
    mixture = {
        "total": 15,
        "shares": {"text": 20, "video": 80},
        "categories": {"shapes": {"conversational": 2, "captioning": 1}},
    }
    ledger, out = built(tmp_path, mixture)
    found = Counter(sample.category for sample in samples(out) if sample.source == "shapes")
    assert found == {"conversational": 8, "captioning": 4}
    assert {row.stratum: row.found for row in ledger.asked} == {
        "train/text/own": 3,
        "train/video/shapes/conversational": 8,
        "train/video/shapes/captioning": 4,
    }


def test_a_repeated_source_comes_again_whole_passes_before_parts_of_one(tmp_path):
    mixture = {"total": 60, "shares": {"text": 50, "image": 50}, "repeats": {"own": 2.5}}
    ledger, out = built(tmp_path, mixture)
    found = samples(out)
    assert len(found) == len({sample.key for sample in found}) == 60
    texts = [sample for sample in found if sample.modality == "text"]
    by_first = Counter(sample.key.removesuffix(f"-e{sample.epoch}") for sample in texts)
    assert sorted(by_first.values()) == [1, 1, *[2] * 14]  # 30 of 16: one pass and 14 of the next
    assert [sample.epoch for sample in texts] == sorted(
        sample.epoch for sample in texts
    )  # a pass ends, then the next
    originals = {sample.key: sample for sample in found if not sample.epoch}
    for sample in found:
        if sample.epoch:
            first = originals[sample.key.removesuffix(f"-e{sample.epoch}")]
            assert (sample.conversations, sample.media) == (first.conversations, first.media)
    flows = {flow.stage: flow for flow in ledger.flows}
    assert flows["features"].outputs == 32 == 60 - ledger.repeated  # nothing is decoded or encoded twice


def test_more_passes_than_the_recipe_allows_are_refused(tmp_path):
    mixture = {"total": 90, "shares": {"text": 50, "image": 50}, "repeats": {"own": 2.5}}
    build = build_of(mini.mini_recipe(tmp_path, mixture=mixture))
    with pytest.raises(
        ValueError, match=r"has 40 candidates for a quota of 45, 5 short.*greatest mixture.total .* 8"
    ):
        build.run()


def test_floors_and_caps_bend_the_weights(tmp_path):
    mixture = {
        "total": 20,
        "shares": {"image": 40, "video": 60},
        "floors": {"own": 8},
        "caps": {"shapes": 12},
    }
    ledger, _ = built(tmp_path, mixture)
    assert {row.stratum: row.asked for row in ledger.asked} == {"train/image/own": 8, "train/video/shapes": 12}


@pytest.mark.slow
def test_a_repeated_source_has_columns_too_and_one_added_later(tmp_path):
    data = mini.mini_recipe(tmp_path, mixture={"total": 40, "shares": {"image": 100}, "repeats": {"own": 3}})
    first = json.loads(json.dumps(data))
    first["encoders"] = {"siglip": data["encoders"]["siglip"]}
    data["encoders"]["internvideo2"]["store"]["place"] = "column"
    for recipe in (first, data):
        build = build_of(recipe)
        build.run()
        assert build.findings.ok, build.findings.verdict
    assert build.ledger.columns


@pytest.mark.slow
def test_a_key_on_an_exclusion_list_is_taken_down_by_rewriting_one_shard(tmp_path):
    data = mini.mini_recipe(tmp_path)
    first = build_of(data)
    first.run()
    key = samples(Path(data["output"]))[7].key
    (tmp_path / "takedown.txt").write_text(f"{key}\n")
    data["mixture"]["exclude"] = [str(tmp_path / "takedown.txt")]
    second = build_of(data, amend=True)
    second.run()
    assert second.findings.ok, second.findings.verdict
    changed = [a.name for a, b in zip(first.ledger.shards, second.ledger.shards, strict=True) if a != b]
    assert changed == ["shards/train-000000.tar"]
    assert key not in [sample.key for sample in samples(Path(data["output"]))]
    assert audit(Path(data["output"])).ok


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["turns", "bytes"])
def test_a_mixture_in_another_unit_that_repeats_a_source_can_be_changed(tmp_path, unit):
    total = 60 if unit == "turns" else 200_000
    mixture = {"total": total, "unit": unit, "shares": {"image": 50, "video": 50}, "repeats": {"own": 3}}
    data = mini.mini_recipe(tmp_path, mixture=mixture)
    first = build_of(data)
    first.run()
    before = [sample.key for sample in samples(Path(data["output"]))]
    data["mixture"]["total"] = total * 11 // 10
    second = build_of(data, amend=True)
    second.run()
    assert second.findings.ok, second.findings.verdict
    after = [sample.key for sample in samples(Path(data["output"]))]
    assert after[: len(before)] == before
    assert len(after) > len(before)
    # The same samples as when built at once.
    data["output"], data["workspace"] = str(tmp_path / "anew"), str(tmp_path / "new-workspace")
    anew = build_of(data)
    anew.run()
    assert {sample.key for sample in samples(Path(data["output"]))} == set(after)
