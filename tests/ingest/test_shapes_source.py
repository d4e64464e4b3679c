"""`Shapes` as a source: keys, bytes, splits, and rendering by several workers at once."""

import hashlib
import itertools
import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import pytest

from pipeline.ingest.shapes.questions import ask
from pipeline.ingest.shapes.render import render
from pipeline.ingest.shapes.scene import draw_film, stream
from pipeline.ingest.shapes.source import Shapes
from schemas.base import digest
from schemas.sample import Category, Modality, Split
from schemas.sources import ShapesSource


def shapes(videos=20, heldout=10, seed=5):
    return Shapes(ShapesSource(kind="shapes", videos=videos, heldout=heldout, seed=seed))


def make_all(source, folder):
    samples = [source.sample(entry, folder) for entry in source.entries()]
    return {s.key: (s, (folder / s.media[0].path).read_bytes()) for s in samples}


def test_a_second_rendering_gives_the_same_samples_and_bytes(tmp_path):
    assert make_all(shapes(), tmp_path / "a") == make_all(shapes(), tmp_path / "b")


def test_more_films_leave_the_first_as_they_were(tmp_path):
    few, many = make_all(shapes(6, 4), tmp_path / "few"), make_all(shapes(12, 8), tmp_path / "many")
    assert len(many) == 20
    assert {key: many[key] for key in few} == few


def test_heldout_shares_no_key_and_no_film_with_train(tmp_path):
    made = make_all(shapes(30, 30), tmp_path)
    digests = {
        split: {hashlib.sha256(data).digest() for sample, data in made.values() if sample.split is split}
        for split in Split
    }
    assert len(digests[Split.TRAIN]) == len(digests[Split.HELDOUT]) == 30
    assert digests[Split.TRAIN].isdisjoint(digests[Split.HELDOUT])


def test_heldout_scenes_are_new_in_a_thousand():
    scenes = {split: {draw_film(stream(5, split, index, "film")) for index in range(1_000)} for split in Split}
    assert scenes[Split.TRAIN].isdisjoint(scenes[Split.HELDOUT])


def test_another_seed_gives_other_keys_and_other_films(tmp_path):
    one, other = make_all(shapes(4, 0, seed=1), tmp_path), make_all(shapes(4, 0, seed=2), tmp_path)
    assert not one.keys() & other.keys()
    assert not {data for _, data in one.values()} & {data for _, data in other.values()}


def test_a_sample_says_what_it_is(tmp_path):
    source = shapes(3, 0)
    for entry in source.entries():
        sample = source.sample(entry, tmp_path)
        assert (sample.key, sample.modality, sample.licence) == (entry.key, Modality.VIDEO, "CC0-1.0")
        assert sample.annotator.name == "renderer"
        assert source.media_root(tmp_path) / sample.media[0].path == tmp_path / f"{entry.key}.mp4"


def test_one_in_four_train_films_is_described_and_the_rest_and_all_heldout_are_asked_about():
    source, kinds = shapes(), {split: Counter() for split in Split}
    for split, index in itertools.product(Split, range(1_000)):
        category, annotations = source._annotate(draw_film(stream(5, split, index, "film")), split, index)
        types = {annotation.type for annotation in annotations}
        assert types == ({"caption", "event"} if category is Category.CAPTIONING else {"qa"})
        kinds[split][category] += 1
    assert kinds[Split.TRAIN][Category.CAPTIONING] == pytest.approx(250, abs=50)
    assert min(kinds[Split.TRAIN].values()) > 50
    assert Category.CAPTIONING not in kinds[Split.HELDOUT]
    assert set(kinds[Split.TRAIN]) - set(kinds[Split.HELDOUT]) == {Category.CAPTIONING}


def test_a_film_that_is_there_is_not_rendered_again(tmp_path):
    source = shapes(1, 0)
    (entry,) = source.entries()
    (tmp_path / f"{entry.key}.mp4").write_bytes(b"there")
    source.sample(entry, tmp_path)
    assert (tmp_path / f"{entry.key}.mp4").read_bytes() == b"there"


def test_workers_that_race_for_one_film_publish_it_whole_and_leave_nothing_else(tmp_path, monkeypatch):
    source, together = shapes(1, 0), threading.Barrier(4, timeout=30)
    (entry,) = source.entries()

    def render_together(film):
        together.wait()  # all four found no film, and none has published yet
        return render(film)

    monkeypatch.setattr("pipeline.ingest.shapes.render.render", render_together)
    with ThreadPoolExecutor(4) as pool:
        samples = list(pool.map(lambda _: source.sample(entry, tmp_path), range(4)))
    assert samples.count(samples[0]) == 4
    (film,) = tmp_path.iterdir()
    assert film.read_bytes() == render(draw_film(stream(5, Split.TRAIN, 0, "film")))


def test_a_film_has_its_name_only_when_its_bytes_are_on_the_disk(tmp_path, monkeypatch):
    source, synced = shapes(1, 0), []
    (entry,) = source.entries()
    path = tmp_path / f"{entry.key}.mp4"

    def look(descriptor):
        synced.append((path.exists(), os.fstat(descriptor).st_size))

    monkeypatch.setattr(os, "fsync", look)
    source.sample(entry, tmp_path)
    assert synced[0] == (False, path.stat().st_size)  # then the folder, once the name is there
    assert [named for named, _ in synced] == [False, True]


def test_a_rendering_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def fail(film):
        raise OSError("no space left")

    monkeypatch.setattr("pipeline.ingest.shapes.render.render", fail)
    source = shapes(1, 0)
    with pytest.raises(OSError, match="no space left"):
        source.sample(next(source.entries()), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_fingerprint_changes_with_whatever_changes_the_films(monkeypatch):
    prints = {s.fingerprint() for s in (shapes(), shapes(21), shapes(20, 11), shapes(20, 10, 6))}
    monkeypatch.setattr("pipeline.ingest.shapes.source.VERSION", 2)
    prints.add(shapes().fingerprint())
    monkeypatch.setattr("pipeline.ingest.shapes.source.version", lambda name: "0")
    prints.add(shapes().fingerprint())
    assert len(prints) == 6
    assert shapes().fingerprint() == shapes().fingerprint()


def test_scenes_and_questions_stay_as_they_are_until_the_version_is_raised():
    scenes = [draw_film(stream(0, Split.TRAIN, index, "film")) for index in range(50)]
    asked = [ask(scene, stream(0, Split.TRAIN, index, "annotations")) for index, scene in enumerate(scenes)]
    texts = [[question.model_dump(mode="json") for question in questions] for questions in asked]
    assert (
        digest([[asdict(scene) for scene in scenes], texts])
        == "9dddd539155364ba9d7e8e25c2dbcfb69d80e1011b150233ea6943a582a8bbb6"
    )
