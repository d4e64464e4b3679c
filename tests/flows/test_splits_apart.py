"""A medium on both sides is a matter of the plan: it is barred from train before anything costly, by its bytes."""

import io
import json
import shutil

from mini import mini_recipe, write_llava
from rich.console import Console

from flows.build import Build
from flows.display import Display
from pipeline.runtime.local import LocalRunner
from schemas.recipe import Recipe
from schemas.sample import Split


def planned(folder, heldout_total):
    """The mini recipe, with four of its pictures under other names, and two of its texts, as held-out data."""
    data = mini_recipe(folder)
    exam, own = folder / "exam", folder / "own"
    rows = json.loads(write_llava(exam, pictures=0, texts=2).read_text())
    for index in range(4):
        shutil.copy(own / f"{index}.png", exam / f"exam-{index}.png")
        talk = [{"from": "human", "value": f"Which colour is {index}?"}, {"from": "gpt", "value": "Red."}]
        rows.append({"id": f"exam {index}", "image": f"exam-{index}.png", "conversations": talk})
    (exam / "annotations.json").write_text(json.dumps(rows))
    places = {"annotations": str(exam / "annotations.json"), "media_root": str(exam)}
    data["sources"].append({**data["sources"][1], **places, "name": "exam", "split": "heldout"})
    data["mixture"] = {"total": 20, "shares": {"text": 50, "image": 50}, "heldout_total": heldout_total}
    build = Build(Recipe.model_validate(data), LocalRunner(), Display(Console(file=io.StringIO())))
    build.ingest(only_plan=True)
    build.plan()
    return build


def test_train_shares_no_medium_and_no_text_with_what_is_held_out(tmp_path):
    build = planned(tmp_path, heldout_total=6)
    assert [(row.stratum, row.gate, row.value, row.samples) for row in build.barred] == [
        ("train/image/own", "heldout", "exam", 4),
        ("train/text/own", "heldout", "exam", 2),
    ]
    chosen = build.first_choice()
    sides = [{m.sha256 for s in chosen if s.split is split for m in s.media} for split in Split]
    assert all(sides)
    assert not sides[0] & sides[1]


def test_without_a_heldout_split_nobody_is_barred_for_it(tmp_path):
    assert planned(tmp_path, heldout_total=0).barred == ()
