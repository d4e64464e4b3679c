"""SigLIP's vision tower, through transformers."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.features.origins import weights_path
from pipeline.features.tower import Tower
from pipeline.features.weights import fill_at_random, load_strictly, read_checkpoint, refuse_misfits
from schemas.base import InputError
from schemas.encoders import EncoderSpec

GEOMETRY: dict[str, dict[str, int]] = {
    # SO400M patch14-384: 384 // 14 = 27, so 729 tokens a frame (the model's published config.json)
    "full": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 384,
        "patch_size": 14,
    },
    # for tests and the demo: a 4 x 4 grid
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 64,
        "patch_size": 16,
    },
}
_ELSEWHERE = ("text_model.", "logit_scale", "logit_bias")
"""Parts of a full SigLIP checkpoint that are not its vision tower."""
_NEST = "vision_model."
"""Published before the tower's names; some releases of transformers have it, others do not."""


class SiglipTower(Tower):
    """Every frame on its own: all patches of one hidden state; SigLIP has no class token."""

    def __init__(self, model: nn.Module, size: str, layer: int) -> None:
        super().__init__()
        geometry = GEOMETRY[size]
        self.model, self.architecture = model, "siglip-so400m-patch14-384" if size == "full" else "siglip-tiny"
        self.image_size, self.width = geometry["image_size"], geometry["hidden_size"]
        self._side = geometry["image_size"] // geometry["patch_size"]
        self._blocks = geometry["num_hidden_layers"] + 1 + layer

    def grid(self, frames: int) -> tuple[int, int, int]:
        """(frames, h, w)."""
        return (frames, self._side, self._side)

    def forward(self, pixels: Tensor) -> Tensor:
        """See `Tower.forward`.

        Equal to `hidden_states[layer]` of transformers, whose own forward would run all blocks and
        the pooling head, and keep every hidden state: 9 GB for 100 frames at full size.
        """
        vision: Any = getattr(self.model, "vision_model", self.model)  # some releases nest it
        tokens: Tensor = vision.embeddings(pixels.flatten(0, 1))
        for block in vision.encoder.layers[: self._blocks]:
            tokens = block(tokens, attention_mask=None)
        return tokens.reshape(len(pixels), *self.grid(pixels.shape[1]), self.width)


def build_siglip(spec: EncoderSpec, path: Path | None = None) -> SiglipTower:
    """The tower that `spec` asks for, in float32 on the CPU.

    `spec.weights` is `random`, or names a folder with `config.json` and safetensors, or one file of weights, of the
    vision tower alone or of a whole SigLIP; `path` is where they lie, if that is known. Raises ValueError where
    they misfit.
    """
    with torch.random.fork_rng(devices=[]):  # transformers initialises from the global generator
        if spec.weights == "random":
            model = _random(spec)
        else:
            path = path or weights_path(spec.weights)
            model = _from_file(path, spec.size) if path.is_file() else _from_folder(path, spec.size)
    return SiglipTower(model.eval(), spec.size, spec.layer)


def _library() -> Any:
    """The library takes two seconds to import, and is too loosely typed to be checked against."""
    import transformers

    return transformers


def _random(spec: EncoderSpec) -> nn.Module:
    model = _bare(spec.size)
    fill_at_random(model, spec.seed)
    return model


def _bare(size: str) -> nn.Module:
    library = _library()
    model: nn.Module = library.SiglipVisionModel(library.SiglipVisionConfig(**GEOMETRY[size]))
    return model


def _from_file(path: Path, size: str) -> nn.Module:
    model = _bare(size)
    nested = any(name.startswith(_NEST) for name in model.state_dict())
    state = {
        (_NEST if nested else "") + name.removeprefix(_NEST): value
        for name, value in read_checkpoint(path).items()
        if not name.startswith(_ELSEWHERE)
    }
    load_strictly(model, state, str(path))
    return model


def _from_folder(folder: Path, size: str) -> nn.Module:
    from safetensors import SafetensorError

    if not (folder / "config.json").is_file():  # transformers would take the text for the name of a hub model
        raise InputError(
            f"weights {str(folder)!r}: no config.json there; give a local folder with it and safetensors, or one "
            "file of weights"
        )
    offline = {"local_files_only": True, "trust_remote_code": False}
    config = _library().SiglipVisionConfig.from_pretrained(folder, **offline)
    found = {field: getattr(config, field) for field in GEOMETRY[size]}
    if found != GEOMETRY[size]:
        first = next(field for field in found if found[field] != GEOMETRY[size][field])
        raise InputError(
            f"weights {str(folder)!r} are of another model: {first} is the first to differ in config.json; "
            f"it says {found}, but size {size!r} is {GEOMETRY[size]}"
        )
    strictness = {"use_safetensors": True, "ignore_mismatched_sizes": True, "output_loading_info": True}
    try:
        model, info = _library().SiglipVisionModel.from_pretrained(
            folder, config=config, dtype=torch.float32, **strictness, **offline
        )
    except (OSError, SafetensorError) as error:
        raise InputError(f"weights {str(folder)!r} hold no readable safetensors file: {error}") from error
    refuse_misfits(  # the library would fill what is missing or misshapen at random, and say so in a log only
        str(folder),
        order=list(model.state_dict()),
        missing=info["missing_keys"],
        misshapen={key: (found, wanted) for key, found, wanted in info["mismatched_keys"]},
        unexpected=sorted(key for key in info["unexpected_keys"] if not key.startswith(_ELSEWHERE)),
    )
    return model  # type: ignore[no-any-return]
