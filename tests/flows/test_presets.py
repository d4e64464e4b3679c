"""Laws of the packaged recipes: Apollo's numbers to the sample, and what its stages have in common is equal."""

import json
import re
from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from mini import mixture

from flows.planning import load_workload, plan_stated
from flows.recipe_file import load_recipe
from flows.yaml_file import packaged
from pipeline.plan.quotas import quotas
from schemas.plan import Stratum
from schemas.sample import Category, Modality, Split

STAGES = ["align", "vision", "sft", "sft-paper"]
PRESETS = [*STAGES, "apollo-4m"]
FILMS = {
    Category.CONVERSATIONAL: 404,
    Category.REASONING: 347,
    Category.CAPTIONING: 166,
    Category.TEMPORAL_PERCEPTION: 61,
    Category.EGOCENTRIC: 15,
    Category.TEXT_RECOGNITION: 6,
}
"""Per mille of the films of sft (Fig. 7), which sum to 999."""
EXACT = {
    "align": {"image": 99_000, "video": 99_000},
    "vision": {"video": 396_000},
    "sft": {"text": 320_000, "image": 1_110_280, "multi_image": 558_505, "video": 1_211_215},
    "sft-paper": {"text": 460_800, "image": 1_056_000, "multi_image": 531_200, "video": 1_152_000},
    "apollo-4m": {"text": 460_800, "image": 1_155_000, "multi_image": 531_200, "video": 1_647_000},
}


def asked(name: str) -> dict[Stratum, int]:
    """Quotas of a recipe whose sources have plenty of what their names say."""
    recipe = load_recipe(name)
    plenty = {
        Stratum(split=Split.TRAIN, modality=modality_of(source.name), source=source.name): 10**7
        for source in recipe.sources
    }
    return {quota.stratum: quota.samples for quota in quotas(recipe.mixture, plenty)}


def modality_of(source: str) -> Modality:
    found = re.fullmatch(r"[a-z]+-(text|image|multi-image|video)(-[a-z-]+)?", source)
    return Modality(found[1].replace("-", "_"))


def by_modality(counts: dict[Stratum, int]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for stratum, samples in counts.items():
        sums[stratum.modality.value] = sums.get(stratum.modality.value, 0) + samples
    return sums


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_asks_for_the_papers_samples_exactly(name):
    assert by_modality(asked(name)) == EXACT[name]
    assert load_recipe(name).mixture.total == sum(EXACT[name].values())


def test_the_three_stages_are_the_whole_of_apollo():
    stages = [by_modality(asked(name)) for name in ("align", "vision", "sft-paper")]
    assert {m: sum(each.get(m, 0) for each in stages) for m in Modality} == by_modality(asked("apollo-4m"))
    assert sum(sum(each.values()) for each in stages) == 3_794_000


def test_sft_has_ten_percent_of_text_and_the_rest_in_the_papers_proportions():
    shares = load_recipe("sft").mixture.shares
    paper = load_recipe("sft-paper").mixture.shares
    assert shares[Modality.TEXT] == 10
    for modality in (Modality.IMAGE, Modality.MULTI_IMAGE, Modality.VIDEO):
        assert shares[modality] == 90 * paper[modality] / Fraction("85.6")
    assert list(paper.values()) == [Fraction("14.4"), 33, Fraction("16.6"), 36]


@pytest.mark.parametrize("name", ["sft", "sft-paper", "apollo-4m"])
def test_the_films_of_sft_have_the_papers_annotation_types(name):
    recipe = load_recipe(name)
    of_category = {s.category: s.name for s in recipe.sources if s.name.startswith("sft-video-")}
    weights = {c: recipe.mixture.weights[n] for c, n in of_category.items()}
    assert {c: 999 * weight / sum(weights.values()) for c, weight in weights.items()} == FILMS
    found = {stratum.source: n for stratum, n in asked(name).items()}
    total = EXACT["sft" if name == "sft" else "sft-paper"]["video"]
    for category, source in of_category.items():
        assert abs(found[source] - Fraction(total * FILMS[category], 999)) < 1


def test_clips_and_frames_are_those_of_each_stage():
    clips = {name: load_recipe(name).decode.max_clips for name in PRESETS}
    assert clips == {"align": 25, "vision": 25, "sft": 200, "sft-paper": 200, "apollo-4m": 200}
    frames = {name: load_recipe(name).shards.frames_for for name in STAGES}
    assert frames == {"align": (), "vision": (Category.CAPTIONING,), "sft": (), "sft-paper": ()}
    assert all(source.category is Category.CAPTIONING for n in STAGES[:2] for source in load_recipe(n).sources)


@pytest.mark.parametrize("name", STAGES)
def test_what_the_stages_have_in_common_is_written_alike(name):
    one, whole = load_recipe(name), load_recipe("apollo-4m")
    assert one.mixture.gates == whole.mixture.gates
    assert one.encoders == whole.encoders
    assert one.decode.model_copy(update={"max_clips": 200}) == whole.decode
    assert (one.seed, one.shards.samples_per_shard) == (whole.seed, whole.shards.samples_per_shard)
    assert (one.name, one.output) == (name, f"build/{name}")
    text, of_whole = packaged("recipes")[name], packaged("recipes")["apollo-4m"]
    rule = re.search(r"  # Apollo's rule as a gate.*?gpt5\*\"\]\n", text, flags=re.DOTALL)
    assert rule
    assert rule[0] in of_whole


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_and_its_statement_ask_for_the_same_and_build_it_as_told(name):
    recipe, statement = load_recipe(name), load_workload(name)
    stated: dict[str, int] = {}
    for part in statement.parts:
        stated[part.modality.value] = stated.get(part.modality.value, 0) + part.samples.value
    assert stated == EXACT[name]
    if name != "apollo-4m":
        caps = {part.max_clips.value for part in statement.parts if part.max_clips}
        assert caps == {recipe.decode.max_clips}
        assert any(part.frames for part in statement.parts) == bool(recipe.shards.frames_for)
        notes = "\n".join(plan_stated(recipe, statement, "a test", None).notes)
        assert "the statement has" not in notes
        assert "max_clips is" not in notes


def test_stages_stated_apart_come_to_what_is_stated_together():
    parts = [part for name in ("align", "vision", "sft-paper") for part in load_workload(name).parts]
    assert parts == list(load_workload("apollo-4m").parts)


@pytest.mark.parametrize("name", PRESETS)
def test_every_number_is_the_papers_or_called_an_assumption(name):
    text = packaged("workloads")[name]
    bases = re.findall(r'basis: "(.*?)"', text)
    assert len(bases) == text.count("value:") + text.count("histogram:")
    assert all(basis.startswith(("paper, ", "our assumption")) for basis in bases)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_planned_with_no_data_at_hand(name, tmp_path):
    done = mixture("plan", name, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["origin"], told["capacity"]["samples"]) == ("stated", sum(EXACT[name].values()))
    assert list(tmp_path.iterdir()) == []


def test_the_documents_and_the_command_name_every_preset(tmp_path):
    root = Path(__file__).parents[2]
    names = packaged("recipes")
    for text in [
        (root / "README.md").read_text(),
        (root / "docs/operations.md").read_text(),
        mixture("plan", "--help").stdout,
        mixture("init", "--help").stdout,
    ]:
        words = set(re.findall(r"[a-z0-9-]+", text))
        assert names.keys() <= words, names.keys() - words


def test_init_writes_a_preset_that_reads_back_as_it_is(tmp_path):
    path = tmp_path / "own.yaml"
    assert mixture("init", path, "--like", "sft-paper").returncode == 0
    assert load_recipe(str(path)) == load_recipe("sft-paper")
    assert yaml.safe_load(path.read_text())["mixture"]["total"] == 3_200_000
