"""`build_source` knows every kind of source a recipe can name, and loads only the one that is named."""

import subprocess
import sys
from typing import get_args

import pytest

from pipeline.ingest.registry import build_source
from pipeline.ingest.source import Source
from schemas.sources import SourceSpec

SPECS = get_args(get_args(SourceSpec)[0])
NEEDED = {"name": "own", "annotations": "own.json", "licence": "X", "annotator": "human"}


@pytest.mark.parametrize("spec_class", SPECS, ids=lambda spec_class: spec_class.__name__)
def test_every_kind_of_source_is_built(spec_class):
    (kind,) = get_args(spec_class.model_fields["kind"].annotation)
    more = NEEDED if kind == "llava" else {}
    source = build_source(spec_class.model_validate({"kind": kind, **more}))
    assert isinstance(source, Source)
    assert type(source).__name__ == spec_class.__name__.removesuffix("Source")


def test_naming_a_source_loads_neither_a_decoder_nor_the_other_sources():
    code = (
        "import sys\n"
        "from pipeline.ingest.registry import build_source\n"
        "from schemas.sources import ShapesSource\n"
        "next(build_source(ShapesSource(kind='shapes')).entries())\n"
        "heavy = {'av', 'torch', 'PIL', 'skimage', 'skvideo', 'pipeline.ingest.llava', 'pipeline.ingest.docs'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
