"""Laws of `mixture plan` where samples are stated, and of the packaged recipe, statement and rates."""

import json
import re
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from mini import TALK, mini_recipe, mixture, write_recipe

from flows import at_hand
from flows.plan_rows import hours, size, takes_rows
from flows.planning import choose_statement, clips_of_span, load_workload, plan_stated
from flows.rates_file import load_rates
from flows.recipe_file import load_recipe
from flows.yaml_file import FileError, packaged, parse
from pipeline.conversations import engine
from pipeline.plan.apportion import apportion
from pipeline.plan.quotas import quotas
from pipeline.plan.workload import stated
from schemas.base import InputError
from schemas.capacity import Prices
from schemas.media import DecodeSpec
from schemas.plan import Stratum
from schemas.recipe import Recipe
from schemas.sample import Modality, Split
from schemas.workload import StatedWorkload

APOLLO = "apollo-4m"
OPERATIONS = Path(__file__).parents[2] / "docs/operations.md"
SFT = {"text": Fraction("14.4"), "image": Fraction(33), "multi_image": Fraction("16.6"), "video": Fraction(36)}


def apollo_plan():
    recipe = load_recipe(APOLLO)
    return plan_stated(recipe, load_workload(APOLLO), "a test", load_rates("stated-h100"))


def test_apollos_stages_have_the_samples_of_the_paper():
    stages: dict[str, int] = {}
    for part in apollo_plan().workload.parts:
        stage = part.part.partition("/")[0]
        stages[stage] = stages.get(stage, 0) + part.samples
    assert stages == {"align": 198_000, "vision": 396_000, "sft": 3_200_000}


def test_apollos_sft_parts_are_the_largest_remainder_quotas_of_its_shares():
    sft = {p.part.removeprefix("sft/"): p.samples for p in apollo_plan().workload.parts if p.part[:3] == "sft"}
    assert sft == apportion(3_200_000, SFT)


def test_recipe_and_statement_of_apollo_ask_for_the_same_samples_part_by_part():
    recipe = load_recipe(APOLLO)
    parts = {part.part: part for part in load_workload(APOLLO).parts}
    part_of, plenty = {}, {}
    for source in recipe.sources:
        stage, modality = source.name.replace("multi-image", "multi_image").split("-")[:2]
        part_of[source.name] = f"{stage}/{modality}"
        plenty[Stratum(split=Split.TRAIN, modality=Modality(modality), source=source.name)] = 10**7
        assert parts[f"{stage}/{modality}"].modality == modality
    asked = Counter()
    for quota in quotas(recipe.mixture, plenty):
        asked[part_of[quota.stratum.source]] += quota.samples
    assert asked == {name: part.samples.value for name, part in parts.items()}


def test_apollos_plan_tells_bytes_hours_tokens_and_money():
    plan = apollo_plan()
    total, needed = plan.workload.total, plan.total
    assert (total.samples, total.images) == (3_794_000, 99_000 + 1_056_000 + 3 * 531_200)
    clip, image, header = 4 * 729 * 1152 * 2, 729 * 1152 * 2, 128
    assert needed.feature_bytes["siglip"] == total.clips * clip + total.images * image + header * total.samples
    clip = 4 * 256 * 1408 * 2  # an image is repeated four times
    assert needed.feature_bytes["internvideo2"] == (total.clips + total.images) * clip + header * total.samples
    assert needed.cost > 0
    assert needed.prompt_tokens == 1200 * needed.talks > 0
    assert needed.generate_device_h == pytest.approx(needed.talks * (1200 * 0.000286 + 600 * 0.000658) / 3600)


def test_parts_of_a_plan_sum_to_its_total():
    plan = apollo_plan()
    for name in ("samples", "clips", "images", "frame_bytes", "stored_bytes", "talks", "reply_tokens"):
        assert sum(getattr(part, name) for part in plan.parts) == getattr(plan.total, name)
    for name in ("decode_core_h", "generate_device_h", "cost", "cost_a_month"):
        assert sum(getattr(part, name) for part in plan.parts) == pytest.approx(getattr(plan.total, name))


def test_apollos_caps_hold_in_each_of_its_parts():
    by_part = {part.part: part for part in apollo_plan().workload.parts}
    lengths = apportion(396_000, {"15": Fraction("0.563"), "90": Fraction("0.224"), "150": Fraction("0.213")})
    assert by_part["vision/video"].clips == 8 * lengths["15"] + 25 * (lengths["90"] + lengths["150"])
    lengths = apportion(1_152_000, {"15": Fraction("0.563"), "90": Fraction("0.224"), "150": Fraction("0.213")})
    assert by_part["sft/video"].clips == 8 * lengths["15"] + 45 * lengths["90"] + 75 * lengths["150"]


def test_every_number_that_is_not_the_papers_is_called_an_assumption():
    text = (Path(__file__).parents[2] / "flows/workloads/apollo-4m.yaml").read_text()
    bases = re.findall(r'basis: "(.*?)"', text)
    assert len(bases) == text.count("value:") + text.count("histogram:")
    assert all(basis.startswith(("paper, ", "our assumption")) for basis in bases)


@pytest.mark.parametrize("name", sorted(packaged("rates")))
def test_packaged_rates_say_that_they_are_stated(name):
    assert load_rates(name).machine.startswith("STATED, not measured")


@pytest.mark.parametrize("name", sorted(packaged("workloads")))
def test_packaged_statements_are_named_as_their_recipes(name):
    assert load_workload(name).name == load_recipe(name).name == name


@pytest.mark.parametrize("sampling", ["fps", "uniform", "released_compat"])
def test_clips_are_those_of_the_recipes_sampling(sampling):
    spec = DecodeSpec(sampling=sampling, max_clips=25)
    counts = [clips_of_span(s * 10**9, spec) for s in (0, 1, 10, 60)]
    assert counts == ([0, 25, 25, 25] if sampling == "uniform" else [0, 1, 5, 25])
    assert clips_of_span(60 * 10**9, spec, 200) == (200 if sampling == "uniform" else 30)


@pytest.fixture
def alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_packaged_recipe_without_its_data_is_planned_as_stated_and_says_so(alone):
    shown = mixture("plan", APOLLO, "--rates", "stated-h100", cwd=alone)
    assert shown.returncode == 0, shown.stderr
    assert "stated, not counted (source align-image: no annotation file" in shown.stdout
    assert "rates: STATED, not measured" in shown.stdout
    assert re.search(r"total +3,794,000 ", shown.stdout)
    assert "our assumption" in shown.stdout
    assert re.search(r"frames in the shards, of 6,109,884 clips +about 1.4 TB", shown.stdout)
    assert list(alone.iterdir()) == []  # nothing was ingested
    told = json.loads(mixture("plan", APOLLO, "--json", cwd=alone).stdout)
    assert (told["origin"], told["capacity"]["samples"], told["capacity"]["cost"]) == ("stated", 3_794_000, None)
    assert sum(part["samples"] for part in told["parts"]) == 3_794_000


def test_a_users_recipe_with_a_mistyped_path_is_never_planned_as_stated(alone):
    text = packaged("recipes")[APOLLO]
    (alone / "apollo-4m.yaml").write_text(text)
    done = mixture("plan", "apollo-4m.yaml", cwd=alone)
    assert done.returncode == 2
    assert "no annotation file 'data/apollo/align-image.jsonl'" in done.stderr
    assert "mixture plan apollo-4m.yaml --workload FILE" in done.stderr
    assert mixture("plan", "apollo-4m.yaml", "--workload", APOLLO, cwd=alone).returncode == 0


def test_building_without_the_data_names_every_file_before_any_work(alone):
    done = mixture("build", APOLLO, "--runner", "local", cwd=alone)
    assert done.returncode == 2
    assert "source align-image: no annotation file 'data/apollo/align-image.jsonl'" in done.stderr
    assert "source sft-video-conversational: no annotation file" in done.stderr
    assert "put the data there, or mend" in done.stderr
    assert "Traceback" not in done.stderr


def small_apollo(folder: Path, **changes: object) -> Path:
    """Texts only, of the recipe's own encoders: neither weights nor films are at hand."""
    recipe = yaml.safe_load(packaged("recipes")[APOLLO])
    rows = [{"id": str(i), "conversations": [{**TALK[0], "value": f"What is {i}?"}, TALK[1]]} for i in range(8)]
    source = {**recipe["sources"][3], "annotations": "own.json", "media_root": ".", **changes}
    (folder / "own.json").write_text(json.dumps(rows))
    recipe |= {"sources": [source], "mixture": {"total": 8, "shares": {"text": 100}}}
    recipe["runtime"] = {"runner": "local", "workers": 1}
    return write_recipe(folder, recipe)


def test_with_the_data_at_hand_a_plan_counts_them_and_needs_no_weights(alone):
    done = mixture("plan", small_apollo(alone), "--json", cwd=alone)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["origin"], told["capacity"]["samples"], told["notes"]) == ("counted", 8, [])
    assert told["capacity"]["reply_tokens"] == 0
    assert "0: no chat model is asked" in mixture("plan", small_apollo(alone), cwd=alone).stdout


def test_a_mixture_is_not_built_before_its_terms_are_filled_in(alone):
    done = mixture("build", small_apollo(alone), cwd=alone)
    assert done.returncode == 2
    assert "FILL-IN is no licence and no annotator, in source sft-text" in done.stderr
    filled = mixture("build", small_apollo(alone, licence="CC0-1.0", annotator="human"), cwd=alone)
    assert "weights 'weights/siglip-so400m-patch14-384': no such file or folder" in filled.stderr


def test_a_chat_model_without_its_engine_is_told_before_any_work(alone, monkeypatch):
    path = small_apollo(alone, licence="CC0-1.0", annotator="human")
    monkeypatch.setattr(engine, "find_spec", lambda _: None)
    recipe = load_recipe(str(path))
    with pytest.raises(InputError, match=r"vLLM is not installed: pip install 'video-mixture\[vllm\]'"):
        at_hand.need_engine(recipe)
    elsewhere = recipe.runtime.model_copy(update={"runner": "ray"})
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    at_hand.need_engine(recipe.model_copy(update={"runtime": elsewhere}))  # its workers may have it


def test_a_stated_plan_that_is_not_the_recipes_says_in_what(tmp_path):
    recipe = Recipe.model_validate(mini_recipe(tmp_path, shards={}))
    notes = "\n".join(plan_stated(recipe, load_workload(APOLLO), "a test", None).notes)
    assert "the statement has 3,794,000 samples, recipe mini asks for 44" in notes
    assert "max_clips is 200 in some parts, 25 in the recipe" in notes
    assert "shards.frames_for is empty" in notes
    assert "generator is still template" in notes


def test_a_stated_plan_of_a_recipes_own_numbers_has_no_warning(tmp_path):
    recipe = Recipe.model_validate(mini_recipe(tmp_path))
    part = {"part": "all", "modality": "text", "samples": {"value": 44, "basis": "a test"}}
    statement = StatedWorkload.model_validate({"name": "w", "parts": [part]})
    assert plan_stated(recipe, statement, "a test", None).notes == ("stated, not counted (a test)",)
    assert stated(statement, lambda ns, cap: 0).total.samples == 44


def test_a_statement_is_asked_for_by_name_whether_data_are_at_hand_or_not(tmp_path):
    recipe = Recipe.model_validate(mini_recipe(tmp_path))
    assert choose_statement("mini.yaml", recipe, None) == (None, "")
    statement, why = choose_statement("mini.yaml", recipe, APOLLO)
    assert statement == load_workload(APOLLO)
    assert why == "asked for with --workload"


@pytest.mark.parametrize(
    ("old", "new", "path", "words"),
    [
        ("15: 0.563", "15: 0.5", "parts[1].films", "sum to 0.937, must be exactly 1"),
        ("value: 99000", "value: -5", "parts[0].samples.value", "got -5"),
        ("max_clips:", "max_clip:", "parts[1].max_clip", "did you mean 'max_clips'?"),
        ("images: {value: 3", "images: {value: x", "parts[5].images.value", "got 'x'"),
    ],
)
def test_a_bad_statement_is_told_with_its_line_the_value_and_the_mend(tmp_path, old, new, path, words):
    text = packaged("workloads")[APOLLO]
    assert old in text
    bad = tmp_path / "w.yaml"
    bad.write_text(text.replace(old, new, 1))
    with pytest.raises(FileError) as error:
        load_workload(str(bad))
    mistake = next(m for m in error.value.mistakes if m.path == path)
    assert mistake.line
    assert words in mistake.message


def test_a_name_that_is_no_statement_lists_the_packaged_ones():
    with pytest.raises(InputError, match=f"no packaged workload of that name \\(there are: align, {APOLLO}, "):
        load_workload("nothing")


def test_every_mistake_of_a_rates_file_is_told_with_its_line(tmp_path):
    bad = tmp_path / "rates.yaml"
    text = packaged("rates")["stated-h100"].replace("siglip: {clip:", "siglip: {clop:")
    bad.write_text(text.replace("core_hour:", "core_hours:"))
    with pytest.raises(InputError) as error:
        load_rates(str(bad))
    assert re.search(r"rates.yaml:\d+: encode_device_s.siglip.clop: no such field", str(error.value))
    assert re.search(r"rates.yaml:\d+: prices.core_hours: .*did you mean 'core_hour'", str(error.value))


def test_the_statement_that_the_documents_show_is_one():
    (text,) = re.findall(r"```yaml\n(name: cooking.*?)```", OPERATIONS.read_text(), flags=re.DOTALL)
    found = stated(parse(text, "operations.md", StatedWorkload, "workload"), lambda ns, cap: 10)
    assert (found.total.samples, found.total.images) == (60_000, 25_000)


def test_a_cost_that_lacks_generation_is_labelled_so():
    rates = load_rates("stated-h100").model_copy(update={"generate_device_s": None})
    plan = plan_stated(load_recipe(APOLLO), load_workload(APOLLO), "a test", rates)
    rows = dict(takes_rows(plan))
    assert rows["device hours of generation"] == "unknown to these rates"
    assert "cost, without generation" in rows
    assert "cost" in dict(takes_rows(apollo_plan()))


def test_money_without_prices_is_unknown_and_not_nothing():
    rates = load_rates("stated-h100").model_copy(update={"prices": Prices()})
    plan = plan_stated(load_recipe(APOLLO), load_workload(APOLLO), "a test", rates)
    assert dict(takes_rows(plan))["cost"] == "unknown: put prices into the rates"


def test_sizes_and_hours_are_told_as_a_person_reads_them():
    assert [size(n) for n in (0, 999, 1000, 999_949, 999_950, 38 * 10**12, 5 * 10**18)] == [
        "0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB", "38.0 TB", "5,000.0 PB",
    ]  # fmt: skip
    assert [hours(h) for h in (0, 0.0123, 9.94, 12.34, 999.94, 1234.4)] == [
        "0 h", "0.012 h", "9.9 h", "12.3 h", "999.9 h", "1,234 h",
    ]  # fmt: skip


def test_a_stated_plan_imports_nothing_heavy(alone):
    probe = (
        "import sys; from typer.testing import CliRunner; from flows.cli import app; "
        f"done = CliRunner().invoke(app, ['plan', '{APOLLO}']); assert done.exit_code == 0, done.output; "
        "print(*sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert not {"torch", "ray", "prefect", "av", "transformers"} & set(found.stdout.split())
