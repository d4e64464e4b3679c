"""Laws of the gates on the way through a build: what is barred costs nothing, is counted, and stays out."""

import json

import pytest
from mini import contents, environment, mini_recipe, mixture, write_llava, write_recipe

from flows.recipe_file import load_recipe
from pipeline.audit.gates import barred_annotator, barred_licence
from schemas.gates import licences_in
from schemas.ledger import Ledger
from schemas.sample import Generator

GATES = {"licences": {"deny": ["CC-BY-NC*"]}, "annotators": {"deny": ["gpt-4*"]}}


def gated_recipe(folder, **weights):
    """Beside the mini recipe's sources one that may not be sold and one that GPT wrote."""
    recipe = mini_recipe(folder)
    for name, terms in {
        "web": {"licence": "CC0-1.0 AND CC-BY-NC-4.0", "annotator": "human"},
        "chat": {"licence": "CC0-1.0", "annotator": "gpt-4o"},
    }.items():
        annotations = str(write_llava(folder / name, pictures=3, texts=2))
        media = {"annotations": annotations, "media_root": str(folder / name)}
        recipe["sources"].append({"kind": "llava", "name": name, **media, **terms})
    recipe["mixture"] |= {**GATES, "weights": weights}
    return recipe


def test_a_source_that_a_gate_bars_is_told_before_anything_costly(tmp_path):
    done = mixture("plan", write_recipe(tmp_path, gated_recipe(tmp_path, chat=0)), env=environment())
    assert done.returncode == 1
    assert "train/text/web has 0 candidates for a quota of 2, 2 short" in done.stderr
    assert "the gates bar 2 more: licence 'CC0-1.0 AND CC-BY-NC-4.0' 2" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_what_is_barred_is_counted_and_changes_no_shard(tmp_path):
    plain, gated = tmp_path / "plain", tmp_path / "gated"
    for folder, recipe in ((plain, mini_recipe), (gated, lambda at: gated_recipe(at, web=0, chat=0))):
        folder.mkdir()
        done = mixture("build", write_recipe(folder, recipe(folder)), env=environment())
        assert done.returncode == 0, done.stderr
    assert contents(plain / "out" / "shards") == contents(gated / "out" / "shards")
    ledgers = [Ledger.read(folder / "out") for folder in (plain, gated)]
    before, after = (ledger.flows[1] for ledger in ledgers)
    assert (before.barred, after.barred) == (0, 10)
    assert after.inputs == before.inputs + 10
    assert (after.outputs, after.reserve) == (before.outputs, before.reserve)
    assert after.inputs == after.outputs + after.rejected + after.filtered
    assert ledgers[0].gates.is_open
    assert ledgers[1].gates.licences.deny == ("CC-BY-NC*",)
    told = {(row.stratum, row.gate): (row.value, row.samples) for row in ledgers[1].barred}
    assert told == {
        ("train/image/chat", "annotator"): ("gpt-4o", 3),
        ("train/text/chat", "annotator"): ("gpt-4o", 2),
        ("train/image/web", "licence"): ("CC0-1.0 AND CC-BY-NC-4.0", 3),
        ("train/text/web", "licence"): ("CC0-1.0 AND CC-BY-NC-4.0", 2),
    }
    path = gated / "recipe.yaml"
    planned = json.loads(mixture("plan", path, "--json").stdout)
    assert sum(row["samples"] for row in planned["barred"]) == 10
    shown = " ".join(mixture("plan", path).stdout.split())
    assert "train/image/web licence CC0-1.0 AND CC-BY-NC-4.0 3" in shown
    assert "+ barred" in mixture("status", path).stdout
    assert "+ barred" not in mixture("status", plain / "recipe.yaml").stdout


def test_a_generator_that_the_gate_denies_is_a_mistake_in_the_recipe(tmp_path):
    recipe = mini_recipe(tmp_path)
    path = write_recipe(tmp_path, recipe)
    path.write_text(path.read_text().replace("heldout_total: 4", "heldout_total: 4\n  annotators: {deny: [temp*]}"))
    done = mixture("validate", path)
    assert done.returncode == 2
    assert "conversations are written by 'template', which mixture.annotators.deny shuts out" in done.stderr


@pytest.mark.parametrize(
    "licence",
    [
        "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC-BY-4.0 AND CC-BY-NC-ND-3.0", "PolyForm-Noncommercial-1.0.0",
        "academic use only", "CC-BY-ND-4.0", "GPL-3.0-only", "FILL-IN",
    ],
)  # fmt: skip
def test_apollos_gate_shuts_out_what_is_not_permissive(licence):
    assert barred_licence(load_recipe("apollo-4m").mixture.licences, licence)


@pytest.mark.parametrize(
    "name", ["gpt-4o", "GPT-4V", "gpt4-vision", "ChatGPT", "gpt-3.5-turbo", "openai/gpt-4o-mini"]
)
def test_apollos_gate_shuts_out_what_chatgpt_wrote(name):
    assert barred_annotator(load_recipe("apollo-4m").mixture.annotators, Generator(name=name))


@pytest.mark.parametrize("licence", ["CC0-1.0", "MIT", "cc-by-4.0", "ODC-By-1.0 AND Apache-2.0"])
@pytest.mark.parametrize("name", ["human", "renderer", "meta-llama/Llama-3.1-70B-Instruct", "Qwen2-VL-7B"])
def test_apollos_gate_lets_in_what_the_paper_does(licence, name):
    gates = load_recipe("apollo-4m").mixture.gates
    assert licences_in(licence)
    assert gates.bar(licence, Generator(name=name)) is None
