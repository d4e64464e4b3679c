"""Documents that lie are defects: README's Python runs, its commands exist, its links lead somewhere."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "flows"))
from mini import environment, mini_recipe, mixture, write_recipe

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
NOT_OURS = {".venv", ".venv-vllm", "build"}
DOCUMENTS = [path for path in ROOT.rglob("*.md") if not NOT_OURS & set(path.relative_to(ROOT).parts)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A folder in which `build/demo` is a mixture, if a small one."""
    folder = tmp_path_factory.mktemp("readme")
    recipe = mini_recipe(folder, output=str(folder / "build" / "demo"))
    done = mixture("build", write_recipe(folder, recipe), env=environment())
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL))
def test_python_of_the_readme_runs(code, demo, monkeypatch):
    monkeypatch.chdir(demo)
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102


def test_every_command_of_the_readme_exists():
    named = set(re.findall(r"\.venv/bin/mixture ([a-z]+)", README)) | {"sources"}
    offered = set(re.findall(r"^  ([a-z]+) ", mixture("--help").stdout, flags=re.MULTILINE))
    assert named
    assert named <= offered


def test_every_make_target_that_a_document_names_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {
        t for path in DOCUMENTS for t in re.findall(r"`make ([a-z-]+)`|^    make ([a-z-]+)", path.read_text(), re.M)
    }
    assert {one or other for one, other in named} <= targets


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target
