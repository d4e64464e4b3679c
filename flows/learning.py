"""Training on a built mixture, and scoring what came of it; both kept under fingerprints."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from flows.display import Display
from flows.exclusion_files import changed_exclusions
from pipeline.runtime.workspace import Artefact, Work, Workspace
from pipeline.shards.reader import ShardReader
from pipeline.storage.files import stamp
from pipeline.storage.nearby import worked_on
from pipeline.storage.places import Place, place
from schemas.base import InputError
from schemas.ledger import Ledger
from schemas.recipe import Recipe
from schemas.sample import Split

if TYPE_CHECKING:
    from torch import nn

    from pipeline.benchmark.scores import Scores
    from pipeline.train.checkpoint import Metrics

SCORES = "scores.json"


def train_work(recipe: Recipe) -> Work:
    """Identity of a training: the shards' root digest, the trainer's config, the language model's files.

    Raises InputError when the mixture in the output folder is not the one this recipe makes.
    """
    ledger = Ledger.read(place(recipe.output))
    if ledger.recipe_sha256 != recipe.mixture_sha256():
        raise InputError(f"{recipe.output} was built from another recipe than this one: `mixture build` it anew")
    if stale := changed_exclusions(recipe.mixture.exclude, ledger.exclusions):
        raise InputError(
            f"exclusion list {stale[0]} has changed since {recipe.output} was built: `mixture build` it anew"
        )
    llm = [] if recipe.train.llm.checkpoint == "tiny" else stamp(place(recipe.train.llm.checkpoint))
    # Their order too, in which the connector joins them: the tars of columns do not tell it.
    encoders = [encoder.name for encoder in ledger.encoders]
    config = {"train": recipe.train.model_dump(mode="json"), "llm": llm, "encoders": encoders}
    return Work("train", 1, config, (ledger.root_sha256,))


def score_work(recipe: Recipe) -> Work:
    """Identity of a scoring: the training that made the model."""
    return Work("benchmark", 1, {}, (train_work(recipe).fingerprint,))


def train_mixture(recipe: Recipe, display: Display) -> "Metrics":
    """Trains the stages that are not done yet, and returns every stage's losses."""
    from pipeline.train.loop import train

    workspace, work = Workspace(place(recipe.workspace)), train_work(recipe)
    if not recipe.train.stages:
        raise InputError("train.stages is empty: name at least one of align, vision, sft in the recipe")
    reader = ShardReader(place(recipe.output), Split.TRAIN)
    with worked_on(workspace.folder(work)) as folder, display.training() as progress:
        metrics = train(reader, recipe.train, _encoders(recipe), folder, progress)
    workspace.finish(work, ())
    return metrics


def evaluate_model(recipe: Recipe, display: Display) -> "Scores":
    """Scores the trained model on the held-out split. Raises LookupError when nothing is trained yet."""
    from pipeline.benchmark.heldout import score, write
    from pipeline.train.answer import load

    workspace, work = Workspace(place(recipe.workspace)), score_work(recipe)
    trained = find_training(recipe)
    if trained is None:
        raise LookupError(f"nothing is trained on {recipe.output} yet; run `mixture train`")
    train, heldout = (ShardReader(place(recipe.output), split) for split in (Split.TRAIN, Split.HELDOUT))
    with worked_on(trained.folder) as folder, display.progress("held-out questions", len(heldout)) as progress:
        scores = score(train, heldout, load(folder).answer)
        progress(len(heldout), len(heldout))
    workspace.folder(work).mkdir(parents=True, exist_ok=True)
    write(workspace.folder(work) / SCORES, scores)
    workspace.finish(work, ())
    return scores


def find_training(recipe: Recipe) -> Artefact | None:
    """The finished training on the mixture as it stands, if there is one."""
    return Workspace(place(recipe.workspace)).find(train_work(recipe))


def find_scores(recipe: Recipe) -> Place | None:
    """The scores of that training, if there are any."""
    found = Workspace(place(recipe.workspace)).find(score_work(recipe))
    return found.folder / SCORES if found else None


def _encoders(recipe: Recipe) -> Mapping[str, "nn.Module"]:
    """The recipe's encoders, where a stage tunes them."""
    from pipeline.features.encoder import build_encoder

    if not any(stage.lr_vision for stage in recipe.train.stages):
        return {}
    frames = recipe.decode.frames_per_clip
    return {name: build_encoder(name, spec, frames) for name, spec in recipe.encoders.items()}
