"""Weights from the Hugging Face hub, at one commit."""

from pathlib import Path

from schemas.base import InputError
from schemas.encoders import HubWeights

WANTED = ("config.json", "*.safetensors", "*.safetensors.index.json")
"""Files of a model that are fetched where none is named; never code, and no pickles."""


def weights_path(weights: str) -> Path:
    """Where weights lie: a local path as it is, or what a `hf:` reference names, fetched into the hub's own cache.

    Token and endpoint are the hub's settings (`HF_TOKEN`, `HF_ENDPOINT`, `HF_HOME`). Raises InputError when there
    is no such file, or it cannot be fetched.
    """
    found = HubWeights.parse(weights)
    return Path(weights) if found is None else _fetched(found, weights)


def _fetched(found: HubWeights, weights: str) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    repo, revision = found.repo, found.revision
    try:
        if found.file:
            return Path(huggingface_hub.hf_hub_download(repo, found.file, revision=revision))
        return Path(huggingface_hub.snapshot_download(repo, revision=revision, allow_patterns=list(WANTED)))
    except (HfHubHTTPError, OSError, ValueError) as error:  # no such repository, no access, no network
        told = str(error).strip().partition("\n")[0]
        raise InputError(
            f"weights {weights!r} cannot be fetched: {told}; check name and commit, log in (HF_TOKEN) where the "
            "model asks for it, or give a local copy"
        ) from error
