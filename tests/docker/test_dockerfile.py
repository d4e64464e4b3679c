"""Laws of the image, without building it: what its lines name exists, and what it copies is enough to run."""

import fnmatch
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def instructions():
    """(word, rest) of each instruction, comments left out and continued lines joined."""
    lines = [line for line in (ROOT / "docker" / "Dockerfile").read_text().splitlines() if line.strip()]
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#")).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines()]


def arguments(word):
    return [rest for found, rest in instructions() if found == word]


def copied():
    """Sources of every COPY, seen from the repository's folder."""
    return [source for rest in arguments("COPY") for source in rest.split()[:-1]]


def test_the_base_image_is_pinned_to_a_python_that_the_project_supports():
    (base,) = arguments("FROM")
    assert re.fullmatch(r"python:3\.\d+-slim-\w+", base)
    assert base.removeprefix("python:").startswith(PROJECT["requires-python"].removeprefix(">="))


def test_the_last_user_is_not_root():
    assert arguments("USER")[-1] not in {"root", "0"}
    assert f"--uid {arguments('USER')[-1]} " in " ".join(arguments("RUN"))


def test_the_entrypoint_is_a_command_of_the_project():
    (entrypoint,) = (shlex.split(rest.strip("[]")) for rest in arguments("ENTRYPOINT"))
    assert set(entrypoint) <= PROJECT["scripts"].keys()
    assert arguments("CMD") == ['["--help"]']


@pytest.mark.parametrize("source", copied())
def test_what_is_copied_exists_and_is_let_through(source):
    assert (ROOT / source).exists()
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert any(fnmatch.fnmatch(source, pattern) for pattern in allowed)


def test_nothing_is_let_through_that_is_not_copied():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert sorted(line[1:] for line in lines if line.startswith("!")) == sorted(copied())


def test_what_is_installed_is_declared_and_constrained_by_the_lock():
    run = " ".join(arguments("RUN"))
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", run)
    assert set(extras.split(",")) <= PROJECT["optional-dependencies"].keys()
    assert run.count("pip install") == run.count("--constraint requirements.lock") + run.count(
        "--no-deps --editable"
    )


def test_the_image_names_no_registry():
    assert "://" not in "\n".join(f"{word} {rest}" for word, rest in instructions())


def test_dependencies_are_installed_before_the_code_is_copied():
    order = [f"{word} {rest}" for word, rest in instructions()]
    install = next(i for i, line in enumerate(order) if "--constraint requirements.lock" in line)
    assert install < order.index("COPY flows flows")


def test_this_folder_is_no_package():
    assert not list((ROOT / "docker").rglob("*.py"))


def test_what_is_copied_is_enough_to_run(tmp_path):
    for source in copied():
        target = tmp_path / source
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(ROOT / source, target) if (ROOT / source).is_dir() else shutil.copy(ROOT / source, target)
    # In this folder Python finds the copies before the installed code; `-P` would hide them.
    script = (
        "import flows.cli, sys; print(flows.cli.__file__); sys.argv[1:] = ['validate', 'demo']; flows.cli.main()"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path))
    assert "demo is valid" in done.stdout
    entrypoint = (tmp_path / "prefect.yaml").read_text().split("entrypoint: ")[1].split(":")[0]
    assert (tmp_path / entrypoint).is_file()
