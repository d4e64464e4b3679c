"""Weights of an encoder: read from a file without running it, made up from a seed, digested."""

import hashlib
import pickle
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from schemas.base import InputError

_LISTED = 8
"""Keys that an error names before it only counts."""
_CODE = re.compile(r"GLOBAL ([\w.]+)")
"""In PyTorch's refusal to unpickle more than tensors."""
_GAMMA = 0.5
_POSITION_STD = 0.5
_TRAINED = "tower.model."
"""Before each name in `vision-{encoder}.safetensors`, which training stage `vision` leaves: our own nesting."""


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Tensors of a `.safetensors` file, or of a `.pt`/`.pth` one, bare or wrapped in `model` or `module`.

    Names are the published ones, also those of an encoder that was tuned here. A `.pt` file is a pickle; only
    tensors and plain containers are read from it, nothing is called.
    Raises ValueError for another suffix, a folder, an unreadable file, or one that holds other objects.
    """
    if not path.is_file():
        raise InputError(f"weights {str(path)!r}: no such file (a folder is not read here); name the file itself")
    if path.suffix == ".safetensors":
        return {name.removeprefix(_TRAINED): value for name, value in _read_safetensors(path).items()}
    if path.suffix in {".pt", ".pth"}:
        return _read_torch(path)
    raise InputError(f"weights {str(path)!r}: suffix {path.suffix!r}, expected .safetensors, .pt or .pth")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"weights {str(path)!r} is not a safetensors file: {error}") from error


def tuned_from(path: Path) -> str:
    """What the weights of a file were tuned from here, as provenance calls it; empty where nothing is told."""
    from safetensors import safe_open

    if path.suffix != ".safetensors" or not path.is_file():
        return ""
    with safe_open(path, "pt") as file:
        metadata: dict[str, str] = file.metadata() or {}
    return metadata.get("tuned_from", "")


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        named = _CODE.search(str(error))  # the rest of the message tells how to run the file all the same
        told = f"names {named[1]!r}, which is code or an object" if named else "is no checkpoint, or was cut short"
        raise InputError(
            f"weights {str(path)!r} {told}: only tensors are unpickled; save its state dict as safetensors"
        ) from error
    for wrapper in ("model", "module"):  # stage-2 releases; DeepSpeed writes `module`
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(
            f"weights {str(path)!r}: expected a state dict of tensors, bare or under `model` or `module`"
        )
    return content


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Puts `state` into `module` as float32. Raises InputError as `refuse_misfits` does."""
    expected = module.state_dict()
    misshapen = {
        key: (state[key].shape, value.shape)
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    }
    refuse_misfits(
        where,
        order=list(expected),
        missing=expected.keys() - state.keys(),
        misshapen=misshapen,
        unexpected=[key for key in state if key not in expected],
    )
    module.load_state_dict({key: state[key].float() for key in expected}, assign=True)


def refuse_misfits(
    where: str,
    order: Sequence[str],
    missing: Collection[str],
    misshapen: Mapping[str, tuple[Sequence[int], Sequence[int]]],
    unexpected: Sequence[str],
) -> None:
    """InputError where weights differ from the model's, which begins with the first key that does.

    First in `order`, the model's own, so from its input to its last block; strangers to it come after that.
    `misshapen` holds the shape found and the one expected.
    """
    named = {
        "missing": [key for key in order if key in missing],
        "shaped for another model, image size or number of frames": [
            f"{key} {list(misshapen[key][0])} instead of {list(misshapen[key][1])}"
            for key in order
            if key in misshapen
        ],
        "unexpected": unexpected,
    }
    differing = [key for key in order if key in missing or key in misshapen] + list(unexpected)
    if differing:
        told = "; ".join(f"{fault} {_listed(keys)}" for fault, keys in named.items() if keys)
        raise InputError(f"weights {where!r} do not fit: {differing[0]} is the first key to differ; {told}")


def _listed(names: Sequence[str]) -> str:
    """`a, b, c`, cut short with a count when there are many."""
    rest = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + rest


def fill_at_random(module: nn.Module, seed: int) -> None:
    """Gives every parameter of a stand-in a value that follows from `seed` and its name alone.

    Not the initialisation a model is trained from: that starts near the identity (LayerScale 1e-5)
    and with equal position embeddings for films and images, so features would hardly depend on the
    blocks. Here every part bears on the output, and tokens stay of order 1, which float16 wants:

    - norm weights 1, biases 0, LayerScale 0.5;
    - position embeddings and class token N(0, 0.5^2), against patch tokens of variance about 1;
    - all other tensors N(0, 1 / fan_in), so that inputs of variance 1 give outputs of variance 1.

    Numbers come from NumPy: no global generator is read or moved, and they are equal on every machine.
    """
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.from_numpy(_stand_in(_published(name), tuple(parameter.shape), seed)))


def _stand_in(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    if len(shape) == 1:
        value = _GAMMA if name.endswith("gamma") else float(name.endswith("weight"))
        return np.full(shape, value, np.float32)
    positional = any(part in name for part in ("pos_embed", "position_embedding", "cls_token"))
    std = _POSITION_STD if positional else float(np.prod(shape[1:])) ** -0.5
    entropy = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest(), "little")
    return np.random.default_rng(entropy).standard_normal(shape, np.float32) * np.float32(std)


def state_sha256(module: nn.Module) -> str:
    """Hex SHA-256 over name, dtype, shape and bytes of every entry of the state dict, by name.

    Reads each byte once: 4 GB (InternVideo2-1B in float32) took 6 s on a busy machine.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted((_published(name), value) for name, value in module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()


def _published(name: str) -> str:
    """The published name: some releases of transformers nest the tower in `vision_model.`, others do not."""
    return name.removeprefix("vision_model.")
