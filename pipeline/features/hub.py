"""Weights from the Hugging Face hub, at one commit."""

from collections.abc import Sequence
from pathlib import Path

from schemas.base import InputError
from schemas.encoders import HubWeights


def from_hub(found: HubWeights, wanted: Sequence[str], weights: str) -> Path:
    """What `found` names, fetched into the hub's own cache; of a whole repository only the files `wanted`.

    Token and endpoint are the hub's settings (`HF_TOKEN`, `HF_ENDPOINT`, `HF_HOME`). Raises InputError, which
    shows `weights`, when it cannot be fetched.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    repo, revision = found.repo, found.revision
    try:
        if found.file:
            return Path(huggingface_hub.hf_hub_download(repo, found.file, revision=revision))
        return Path(huggingface_hub.snapshot_download(repo, revision=revision, allow_patterns=list(wanted)))
    except (HfHubHTTPError, OSError, ValueError) as error:  # no such repository, no access, no network
        told = str(error).strip().partition("\n")[0]
        raise InputError(
            f"weights {weights!r} cannot be fetched: {told}; check name and commit, log in (HF_TOKEN) where the "
            "model asks for it, or give a local copy"
        ) from error
