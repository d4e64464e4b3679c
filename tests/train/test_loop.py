from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from memory_mixture import ALIGN, SFT, VISION, MemoryReader, encoders, film, mixture, quiet, sample, spec, text
from torch.nn import functional

from pipeline.train import loop, prompt
from pipeline.train.answer import load
from pipeline.train.checkpoint import Metrics
from pipeline.train.dataset import chosen_clips
from pipeline.train.loop import run_stage, train
from schemas.sample import Modality


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def bits(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(before, module):
    return {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("stage", "trained"), [(ALIGN, {"connector"}), (VISION, {"vision", "connector"}), (SFT, {"connector", "llm"})]
)
def test_a_stage_changes_the_parts_with_a_rate_and_not_one_bit_of_the_others(stage, trained):
    run = loop._prepare(mixture(), spec(stage), encoders())
    parts = {"connector": run.model.connector, "llm": run.model.llm, "vision": torch.nn.ModuleDict(run.encoders)}
    before = {name: bits(part) for name, part in parts.items()}
    run_stage(run, stage, "1", quiet)
    for name, part in parts.items():
        assert {p.requires_grad for p in part.parameters()} == {name in trained}
        moved = changed(before[name], part)
        if name in trained:
            assert len(moved) > 0.8 * len(before[name]), f"{name} hardly learnt: only {moved}"
        else:
            assert not moved, f"{name} is frozen, but {moved} changed"


def test_a_tiny_model_learns_eight_films_by_heart_and_answers_them(tmp_path):
    reader = MemoryReader(map(film, range(8)))
    metrics = train(reader, spec(SFT, epochs=60), {}, tmp_path, quiet)
    (stage,) = metrics.stages
    assert stage.loss_start > 3
    assert stage.loss_end < 0.05
    trained = load(tmp_path)
    said = trained.answer(reader.stored, ["What colour?"] * 8)
    assert said == ["red", "green", "blue", "white"] * 2
    blind = trained.answer([None] * 8, ["What colour?"] * 8)
    assert len(set(blind)) == 1  # without vision tokens eight times the same question


def test_questions_of_many_lengths_are_answered_as_if_each_were_asked_alone(tmp_path):
    train(MemoryReader(map(film, range(8))), spec(SFT, epochs=10), {}, tmp_path, quiet)
    trained = load(tmp_path)
    samples = [film(0), None, film(1, clips=4), film(2), None]
    questions = ["What?", "What colour?", "And what colour is it now?", "Now?", "What colour can the film show?"]
    alone = [trained.answer([s], [q])[0] for s, q in zip(samples, questions, strict=True)]
    assert trained.answer(samples, questions) == alone
    assert len(set(alone)) > 1


def test_vision_tokens_without_a_place_are_a_bug_that_is_named():
    run = loop._prepare(mixture(), spec(SFT), {})
    batch = loop.collate(run.items([0], False), run.chat)
    twice = replace(batch, arrays=tuple(torch.cat([array, array]) for array in batch.arrays))
    with pytest.raises(ValueError, match="8 vision tokens for 4 places"):
        run.model.embed(twice)


def test_a_step_clips_the_gradient_and_moves_by_the_rate_it_is_given():
    run = loop._prepare(mixture(), spec(SFT, grad_clip=0.01), {})
    optimiser = loop.freeze_and_optimise(run, SFT)
    moved = []
    for factor in (0.0, 0.5, 1.0):
        before = run.model.connector.latents.detach().clone()
        loop._step(run, optimiser, factor, run.items([0, 1], False), False)
        moved.append((run.model.connector.latents - before).abs().max().item())
    gradients = [p.grad.norm() for group in optimiser.param_groups for p in group["params"]]
    assert torch.stack(gradients).norm().item() == pytest.approx(0.01, rel=1e-3)
    assert moved[0] == 0.0
    assert 0 < moved[1] < moved[2] <= 1.5 * SFT.lr_connector


def test_the_same_run_gives_the_same_bytes(tmp_path):
    for name in ("one", "other"):
        train(mixture(), spec(ALIGN, VISION, SFT), encoders(), tmp_path / name, quiet)
    one = files(tmp_path / "one")
    assert one == files(tmp_path / "other")
    assert {"1-align/model.safetensors", "2-vision/vision-siglip.safetensors", "metrics.json"} <= one.keys()


def test_another_seed_gives_another_model(tmp_path):
    for seed in (0, 1):
        train(mixture(), spec(ALIGN, seed=seed), {}, tmp_path / str(seed), quiet)
    assert files(tmp_path / "0")["1-align/model.safetensors"] != files(tmp_path / "1")["1-align/model.safetensors"]


@pytest.mark.parametrize("killed_in", ["vision", "sft"])
def test_a_killed_run_goes_on_after_its_last_whole_stage_to_the_same_bytes(tmp_path, killed_in):
    def kill(stage, step, steps, loss):
        if stage == killed_in and step == 2:
            raise KeyboardInterrupt

    stages = spec(ALIGN, VISION, SFT)
    tuned = encoders()
    train(mixture(), stages, tuned, tmp_path / "whole", quiet)
    with pytest.raises(KeyboardInterrupt):
        train(mixture(), stages, encoders(), tmp_path / "killed", kill)
    assert not (tmp_path / "killed" / "metrics.json").exists()
    seen, restored = [], encoders()
    train(mixture(), stages, restored, tmp_path / "killed", lambda stage, *_: seen.append(stage))
    assert not changed(bits(torch.nn.ModuleDict(tuned)), torch.nn.ModuleDict(restored))
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    assert "align" not in seen


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    train(mixture(), spec(ALIGN), {}, tmp_path, quiet)
    with pytest.raises(ValueError, match="another training run"):
        train(mixture(), spec(ALIGN, seed=1), {}, tmp_path, quiet)


def test_metrics_say_what_was_done_and_which_encoders_sft_learnt_from(tmp_path):
    steps = []
    metrics = train(
        mixture(), spec(ALIGN, VISION, SFT, epochs="3/2"), encoders(), tmp_path, lambda *at: steps.append(at[:3])
    )
    assert [(s.name, s.steps, s.samples) for s in metrics.stages] == [
        ("align", 3, 12),
        ("vision", 3, 12),
        ("sft", 4, 15),
    ]
    assert steps[:3] == [("align", 1, 3), ("align", 2, 3), ("align", 3, 3)]
    assert metrics.sft_features == "encoders before stage vision"
    assert metrics.stages[1].tuned_encoders == ("siglip", "video")
    assert Metrics.model_validate_json((tmp_path / "metrics.json").read_text()) == metrics
    assert train(mixture(), spec(SFT), {}, tmp_path / "sft", quiet).sft_features == ""


def test_the_measured_losses_are_those_of_one_batch_before_and_after():
    run = loop._prepare(mixture(), spec(SFT), {})
    before = deepcopy(run.model)
    metrics = run_stage(run, SFT, "1", quiet)
    positions = loop.fixed_batch(run, SFT, "1", run.reader.positions(SFT.modalities, []))
    assert sorted(positions) == list(range(10))  # all there are, fewer than 64
    assert metrics.loss_start == loop._mean_loss(replace(run, model=before), positions, False)
    assert metrics.loss_end == loop._mean_loss(run, positions, False)


def test_the_loss_is_the_mean_over_answers_of_the_mean_over_tokens():
    long = replace(film(0), sample=sample("long", Modality.VIDEO, [("What?", "a red disc on black")], 2))
    run = loop._prepare(MemoryReader([film(0), long]), spec(SFT), {})
    expected = []
    for item in run.items([0, 1], False):
        batch = loop.collate([item], run.chat)
        logits = run.model.llm(inputs_embeds=run.model.embed(batch)).logits
        expected.append(functional.cross_entropy(logits[0, :-1], batch.labels[0, 1:]).item())
    assert loop._mean_loss(run, [0, 1], False) == pytest.approx(sum(expected) / 2, rel=1e-4)


@pytest.mark.parametrize(("limit", "value", "parts"), [("MICRO_CLIPS", 2, 8), ("PADDING", 1.0, 2)])
def test_a_batch_gone_through_in_parts_has_the_gradients_of_the_whole(monkeypatch, limit, value, parts):
    gradients = []
    for whole in (True, False):
        monkeypatch.setattr(loop, "PADDING", 1e9)
        monkeypatch.setattr(loop, limit, 1e9 if whole else value)
        run = loop._prepare(mixture(), spec(SFT), {})
        optimiser = loop.freeze_and_optimise(run, SFT)
        items = run.items(range(10), False)
        assert len(list(loop._parts(items))) == (1 if whole else parts)
        loss = loop._step(run, optimiser, 0.0, items, False)
        gradients.append([loss, *(p.grad for p in run.model.connector.parameters())])
    for whole, cut in zip(*gradients, strict=True):
        torch.testing.assert_close(torch.as_tensor(cut), torch.as_tensor(whole), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rounds", ["together", "apart"])
def test_rounds_apart_cost_what_they_cost_asked_one_by_one(rounds):
    pairs = [("What colour?", "red"), ("How many?", "two discs"), ("Which way does it go?", "left")]
    shown = film(0)
    whole = replace(shown, sample=sample("whole", Modality.VIDEO, pairs, 2))
    alone = [
        replace(shown, sample=sample(f"alone-{at}", Modality.VIDEO, [pair], 2)) for at, pair in enumerate(pairs)
    ]
    run = loop._prepare(MemoryReader([whole, *alone, text(0)]), spec(SFT, rounds=rounds), {})
    one_by_one = run.loss_sum(run.items([1, 2, 3], False), False)
    together = run.loss_sum(run.items([0, 4], False), False) - run.loss_sum(run.items([4], False), False)
    assert torch.allclose(together, one_by_one, rtol=1e-4) == (rounds == "apart")


@pytest.mark.parametrize(
    ("count", "at_most", "chosen"),
    [(3, 3, [0, 1, 2]), (2, 5, [0, 1]), (10, 4, [1, 3, 6, 8]), (9, 3, [1, 4, 7]), (100, 1, [50]), (0, 3, [])],
)
def test_clips_are_the_centres_of_equal_parts_of_the_film(count, at_most, chosen):
    assert chosen_clips(count, at_most) == chosen


def test_at_most_max_clips_are_shown_with_features_of_their_own():
    whole = film(0, clips=9)
    rising = {
        name: array + np.arange(9, dtype=np.float16).reshape(9, 1, 1, 1, 1)
        for name, array in whole.features.items()
    }
    run = loop._prepare(MemoryReader([replace(whole, features=rising)]), spec(SFT, max_clips=3), {})
    (item,) = run.items([0], False)
    for name, array in zip(rising, item.arrays, strict=True):
        assert np.array_equal(array, rising[name][[1, 4, 7]])
    assert item.talk.ids.count(prompt.VISION) == 3 * 2  # one token a frame, two frames a clip


def test_an_image_stands_beside_a_film_with_its_one_time_step_repeated():
    still = film(1, clips=1)
    arrays = {name: array[:, :1] if name == "siglip" else array for name, array in still.features.items()}
    image = replace(still, sample=sample("image", Modality.IMAGE, [("What?", "green")], 1), features=arrays)
    run = loop._prepare(MemoryReader([film(0), image]), spec(SFT), {})
    batch = loop.collate(run.items([0, 1], False), run.chat)
    assert [tuple(array.shape) for array in batch.arrays] == [(3, 2, 2, 2, 6), (3, 2, 1, 1, 10)]
    assert torch.equal(batch.arrays[0][2, 0], batch.arrays[0][2, 1])


def test_a_long_talk_is_cut_to_max_tokens():
    long = text(0)
    long = replace(long, sample=sample("long", Modality.TEXT, [("Go on.", "and so on " * 200)]))
    run = loop._prepare(MemoryReader([film(0), long]), spec(SFT, max_tokens=100), {})
    assert [len(item.talk) for item in run.items([1], False)] == [100]


def test_tuning_encoders_without_stored_frames_says_which_category_to_name(tmp_path):
    bare = film(0)
    bare = replace(bare, frames={name: array[:0] for name, array in bare.frames.items()})
    with pytest.raises(ValueError, match=r"name category captioning in shards\.frames_for"):
        train(MemoryReader([bare]), spec(VISION), encoders(), tmp_path, quiet)


@pytest.mark.parametrize(
    ("reader", "stages", "message"),
    [
        (mixture(), [], "stages is empty"),
        (mixture(films=1), [ALIGN.model_copy(update={"modalities": (Modality.IMAGE,)})], "no sample to learn from"),
        (mixture(films=0), [SFT], "no image and no video"),
        (mixture(), [VISION], "siglip, video are not at hand"),
        (mixture(), [ALIGN.model_copy(update={"lr_connector": 0.0})], "trains nothing"),
    ],
)
def test_a_training_that_cannot_be_done_says_why(tmp_path, reader, stages, message):
    with pytest.raises(ValueError, match=message):
        train(reader, spec(*stages), {}, tmp_path, quiet)


def test_training_leaves_torchs_random_numbers_alone(tmp_path):
    torch.manual_seed(123)
    state = torch.get_rng_state()
    train(mixture(), spec(ALIGN), {}, tmp_path, quiet)
    assert torch.equal(torch.get_rng_state(), state)
