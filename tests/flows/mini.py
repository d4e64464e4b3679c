"""A mixture small enough to build in seconds: rendered shapes, and a LLaVA folder with planted faults."""

import atexit
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml
from fork_server import ForkServer
from PIL import Image

from schemas.recipe import Recipe

TALK = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "A plain colour."}]


def write_llava(folder: Path, pictures: int = 16, texts: int = 16, width: int = 60) -> Path:
    """Pictures and texts in LLaVA form; with another width they are others."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index in range(pictures):
        colour = np.random.default_rng(index).integers(0, 255, 3, dtype=np.uint8)
        Image.fromarray(np.full((40 + index, width, 3), colour)).save(folder / f"{index}.png")
        rows.append({"id": f"picture {index}", "image": f"{index}.png", "conversations": TALK})
    for index in range(texts):
        talk = [
            {"from": "human", "value": f"What is {index} plus {width - 59}?"},
            {"from": "gpt", "value": f"It is {index + width - 59}."},
        ]
        rows.append({"id": f"text {index}", "conversations": talk})
    path = folder / "annotations.json"
    path.write_text(json.dumps(rows))
    return path


def mini_recipe(folder: Path, **changes: object) -> dict:
    """The recipe as YAML data; `changes` replace top-level fields."""
    annotations = write_llava(folder / "own")
    tiny = {"size": "tiny", "weights": "random"}
    recipe = {
        "name": "mini",
        "seed": 3,
        "workspace": str(folder / "workspace"),
        "output": str(folder / "out"),
        "sources": [
            {"kind": "shapes", "videos": 30, "heldout": 6},
            {
                "kind": "llava",
                "name": "own",
                "annotations": str(annotations),
                "media_root": str(folder / "own"),
                "licence": "CC0-1.0",
                "annotator": "human",
            },
        ],
        "mixture": {"total": 40, "shares": {"text": 10, "image": 30, "video": 60}, "heldout_total": 4},
        "encoders": {
            "siglip": {
                "architecture": "siglip",
                **tiny,
                "preprocessing": {"size": 64, "mean": [0.5] * 3, "std": [0.5] * 3},
            },
            "internvideo2": {
                "architecture": "internvideo2",
                **tiny,
                "preprocessing": {"size": 56, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
                "store": {"pool": 2, "dtype": "int8"},
            },
        },
        "shards": {"samples_per_shard": 16, "frames_for": ["captioning"]},
        "runtime": {"runner": "local", "workers": 1},
    }
    return {**recipe, **changes}


def write_recipe(folder: Path, data: dict) -> Path:
    """The recipe as a file, checked."""
    Recipe.model_validate(data)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def texts_only(folder, **changes):
    """Builds in about a second: no film is rendered or decoded."""
    data = mini_recipe(folder)
    data["sources"] = data["sources"][1:]
    data["mixture"] = {"total": 10, "shares": {"text": 100}}
    return write_recipe(folder, {**data, **changes})


def mixture(
    *arguments: object, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the command as a user does, in a process of its own.

    In the tests' own environment, or another that comes again, it is forked from a process that has the imports
    already: these take longer than most of what is built here.
    """
    shell = held(env or os.environ)
    if server := _server(frozenset(shell.items())):
        return server.completed(arguments, str(cwd or Path.cwd()))
    command = [sys.executable, "-m", "flows.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=shell, cwd=cwd)


def held(env: Mapping[str, str]) -> dict[str, str]:
    """What of an environment does not change from test to test."""
    return {name: value for name, value in env.items() if name != "PYTEST_CURRENT_TEST"}


_SERVERS: dict[frozenset[tuple[str, str]], ForkServer | None] = {}


def _server(env: frozenset[tuple[str, str]]) -> ForkServer | None:
    """None where an environment is met for the first time that may not come again."""
    if env not in _SERVERS and env != frozenset(held(os.environ).items()):
        _SERVERS[env] = None
    elif _SERVERS.get(env) is None:
        folder = tempfile.TemporaryDirectory()
        server = _SERVERS[env] = ForkServer(dict(env), Path(folder.name) / "log", traps=False)
        atexit.register(lambda: (server.stop(), folder.cleanup()))
    return _SERVERS[env]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its path."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def environment() -> dict[str, str]:
    """One thread a process: several builds share two cores."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}
