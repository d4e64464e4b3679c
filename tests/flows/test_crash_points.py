"""Law 4, point by point: SIGKILL at each place where a build can be cut in two, then the same command again."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from crash_points import POINTS
from mini import contents, environment, mini_recipe, mixture, write_recipe

CRASHING = Path(__file__).parents[1] / "crash_points.py"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The recipe, and the bytes of a build that nobody killed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    recipe = mini_recipe(folder)
    recipe["encoders"]["internvideo2"]["store"]["place"] = "column"
    path = write_recipe(folder, recipe)
    done = mixture("build", path, env=environment())
    assert done.returncode == 0, done.stderr
    return path, contents(folder / "out")


def test_the_operations_manual_lists_exactly_these_points():
    manual = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([a-z-]+)` \|", manual.partition("## A kill at any instant")[2], re.MULTILINE) == list(
        POINTS
    )


def died_at(point, arguments, env):
    command = [sys.executable, str(CRASHING), point, "build", *map(str, arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200)
    return done.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("point", [name for name, point in POINTS.items() if point.only != "store"])
def test_a_build_killed_at_a_point_ends_with_the_same_bytes(undisturbed, tmp_path, point):
    path, expected = undisturbed
    arguments = [path, "--workspace", tmp_path / "ws", "--output", tmp_path / "out"]
    assert died_at(point, arguments, environment()), f"{point} was not met"
    done = mixture("build", *arguments, env=environment())
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == expected
    assert mixture("clean", path, "--workspace", tmp_path / "ws", env=environment()).returncode == 0
    assert not list((tmp_path / "ws").rglob(".attempt-*"))
