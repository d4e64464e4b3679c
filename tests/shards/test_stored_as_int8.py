"""A mixture whose second encoder is stored as int8 codes with scales: written, read, audited."""

import numpy as np
import pytest
import webdataset
from shard_factory import ENCODERS, NAMES, TRAIN, WITHOUT_FRAMES, account, make_packed

from pipeline.audit.audit import audit
from pipeline.audit.findings import Code
from pipeline.features.codec import quantised
from pipeline.plan.order import interleave
from pipeline.shards.members import Packed
from pipeline.shards.reader import ShardReader
from pipeline.shards.writer import write_mixture
from schemas.arrays import Features, StorageLoss
from schemas.sample import Modality, Split

STORED = (ENCODERS[0], ENCODERS[1].model_copy(update={"stored": "int8"}))
LOSS = {"internvideo2": StorageLoss(cosine=0.875, relative_error=0.25)}


def packed(number, modality, spoil=None):
    plain = make_packed(number, modality, Split.TRAIN, STORED)
    features = plain.features
    codes, scale = quantised(features.arrays["internvideo2"])
    columns = {"siglip": features.arrays["siglip"], "internvideo2": codes, "internvideo2.scale": scale}
    if spoil:
        spoil(columns)
    meta = features.meta.model_copy(update={"storage_loss": LOSS if len(codes) else {}})
    return Packed(plain.sample, plain.conversation, Features(meta, columns, features.frames))


def build(folder, spoil=None):
    order = list(enumerate(interleave(TRAIN)))
    film = next(number for number, modality in order if modality is Modality.VIDEO)
    found = (packed(number, modality, spoil if number == film else None) for number, modality in order)
    return write_mixture(folder, {Split.TRAIN: found}, NAMES, WITHOUT_FRAMES, account(heldout={}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("int8")
    build(path)
    return path


def test_the_audit_finds_nothing_and_the_ledger_tells_the_loss(folder):
    report = audit(folder)
    assert report.ok, report.findings
    assert '"internvideo2":{"cosine":0.875,"relative_error":0.25}' in (folder / "ledger.json").read_text().replace(
        "\n", ""
    ).replace(" ", "")


def test_every_sample_has_the_same_members(folder):
    urls = sorted(str(path) for path in (folder / "shards").glob("*.tar"))
    for sample in webdataset.WebDataset(urls, shardshuffle=False).decode():
        names = [name for name in sample if not name.startswith("__")]
        assert names == ["json", "siglip.npy", "internvideo2.npy", "internvideo2.scale.npy"]
        assert (sample["internvideo2.npy"].dtype, sample["internvideo2.scale.npy"].dtype) == ("int8", "float16")


def test_the_reader_restores_what_was_stored(folder):
    reader = ShardReader(folder, "train")
    for number, modality in enumerate(interleave(TRAIN)):
        true = make_packed(number, modality, Split.TRAIN, STORED).features.arrays["internvideo2"]
        found = reader.read(number, ["internvideo2"]).features["internvideo2"]
        assert found.dtype == np.float16
        np.testing.assert_allclose(found.astype(float), true.astype(float), atol=np.abs(true).max(initial=0) / 240)


def nan_scale(columns):
    columns["internvideo2.scale"] = columns["internvideo2.scale"].copy()
    columns["internvideo2.scale"][0, 0, 0, 0] = np.nan


def wide_scale(columns):
    columns["internvideo2.scale"] = np.repeat(columns["internvideo2.scale"], 2, axis=-1)


def narrow_codes(columns):
    columns["internvideo2"] = columns["internvideo2"][..., :-1]


@pytest.mark.parametrize(
    ("spoil", "code"),
    [(nan_scale, Code.FEATURE_NOT_FINITE), (wide_scale, Code.FEATURE_SHAPE), (narrow_codes, Code.FEATURE_SHAPE)],
)
def test_the_audit_finds_codes_and_scales_that_are_not_as_promised(tmp_path, spoil, code):
    build(tmp_path, spoil)
    assert audit(tmp_path).finding_counts == {code: 1}
