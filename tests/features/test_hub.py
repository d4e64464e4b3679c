"""Weights from a hub: a small one of our own, over HTTP as the real one speaks."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from encoder_specs import spec
from pydantic import ValidationError
from safetensors.torch import save_file

from pipeline.features.internvideo2 import TINY, InternVideo2
from pipeline.features.weights import fill_at_random, state_sha256

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CODE = """
import sys
sys.path.insert(0, sys.argv[1])
from encoder_specs import spec
from pipeline.features.internvideo2 import build_internvideo2
from pipeline.features.siglip import build_siglip
from pipeline.features.weights import state_sha256
from schemas.base import InputError
try:
    build = build_siglip if sys.argv[2] == "siglip" else build_internvideo2
    print(state_sha256(build(spec(sys.argv[2], weights=sys.argv[3])).model))
except InputError as error:
    print("InputError:", error)
"""


class Hub(http.server.BaseHTTPRequestHandler):
    files: dict[str, bytes]
    asked: list[str]

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self.wfile.write(self._answer())

    def _answer(self) -> bytes:
        self.asked.append(self.path)
        path = self.path.split("?")[0]
        if path.startswith("/api/models/owner/name"):
            listed = [
                {"rfilename": name, "type": "file", "path": name, "size": len(data), "oid": "0"}
                for name, data in self.files.items()
            ]
            tree = "/tree/" in path
            body = json.dumps(listed if tree else {"id": "owner/name", "sha": COMMIT, "siblings": listed}).encode()
            return self._send(200, body, {"Content-Type": "application/json"})
        name = path.rpartition(f"/{COMMIT}/")[2]
        if not path.startswith("/owner/name/resolve/") or name not in self.files:
            missing = {"X-Error-Code": "EntryNotFound" if path.startswith("/owner/name/") else "RepoNotFound"}
            return self._send(404, b"{}", missing)
        body = self.files[name]
        etag = hashlib.sha256(body).hexdigest()
        return self._send(200, body, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> bytes:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        return b"" if self.command == "HEAD" else body

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model = InternVideo2(TINY)
    fill_at_random(model, seed=7)
    save_file(model.state_dict(), folder / "video.safetensors")
    from transformers import SiglipVisionConfig, SiglipVisionModel

    from pipeline.features.siglip import GEOMETRY

    siglip = SiglipVisionModel(SiglipVisionConfig(**GEOMETRY["tiny"]))
    fill_at_random(siglip, seed=8)
    siglip.save_pretrained(folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    files["modeling_evil.py"] = b"raise SystemExit('ran')"
    files["pytorch_model.bin"] = b"a pickle"
    return files, {"internvideo2": state_sha256(model), "siglip": state_sha256(siglip)}


@pytest.fixture
def hub(weights):
    handler = type("Handler", (Hub,), {"files": weights[0], "asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def built(hub, home: Path, architecture: str, reference: str) -> str:
    endpoint = f"http://127.0.0.1:{hub.server_address[1]}"
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", CODE, str(Path(__file__).parent), architecture, reference]
    shown = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, timeout=120)
    assert shown.returncode == 0, shown.stderr
    return shown.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("architecture", "reference"),
    [
        pytest.param("siglip", f"hf:owner/name@{COMMIT}", marks=pytest.mark.slow),
        ("internvideo2", f"hf:owner/name@{COMMIT}:video.safetensors"),
    ],
)
def test_weights_come_from_the_hub_once_and_neither_code_nor_pickles_do(
    hub, weights, tmp_path, architecture, reference
):
    assert built(hub, tmp_path, architecture, reference) == weights[1][architecture]
    asked = hub.RequestHandlerClass.asked
    assert any("safetensors" in path for path in asked)
    assert not any(".py" in path or ".bin" in path for path in asked if "/resolve/" in path)
    hub.shutdown()
    hub.server_close()
    assert built(hub, tmp_path, architecture, reference) == weights[1][architecture], (
        "the second time from the disk"
    )


@pytest.mark.parametrize(
    "reference",
    [
        pytest.param(f"hf:owner/other@{COMMIT}", marks=pytest.mark.slow),
        pytest.param(f"hf:owner/other@{COMMIT}:video.safetensors", marks=pytest.mark.slow),
        f"hf:owner/name@{COMMIT}:absent.pt",
    ],
)
def test_what_the_hub_lacks_is_an_error_that_names_it_and_the_mend(hub, tmp_path, reference):
    told = built(hub, tmp_path, "internvideo2", reference)
    assert told.startswith(f"InputError: weights {reference!r} cannot be fetched")
    assert "HF_TOKEN" in told


@pytest.mark.parametrize(
    "reference", ["hf:owner/name", "hf:owner/name@main", "hf:name@" + COMMIT, "hf:o/n@0123abc"]
)
def test_a_reference_without_a_whole_commit_is_refused(reference):
    with pytest.raises(ValidationError, match="all 40 digits"):
        spec("siglip", weights=reference)


def test_provenance_shows_repository_and_commit():
    reference = f"hf:owner/name@{COMMIT}"
    assert spec("siglip", weights=reference).labelled_weights == reference
