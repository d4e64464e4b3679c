"""The features stage: `Frames` in, `Features` out."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.features.codec import is_finite, storage_loss, stored
from pipeline.features.origins import Stamp
from pipeline.runtime.contract import Stage
from schemas.arrays import Features, FeaturesMeta, Frames, StorageLoss
from schemas.encoders import EncoderSpec
from schemas.rejection import Reason, Rejection

if TYPE_CHECKING:
    from pipeline.features.engine import Engine


def device_name() -> str:
    """What `Encode` would run on here, in words."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "one CPU core"


class Encode(Stage[Frames, Features]):
    """Encodes each sample with every encoder of the recipe.

    The samples of a batch share the encoders' batches (`Engine`). On the CPU, in one thread, features do not
    depend on a sample's neighbours, the batch size or the number of workers, to the last bit (on one kind of
    processor). On a GPU, which is taken where PyTorch sees one, that is not promised.
    """

    name, version = "features", 3
    wants_gpu = True

    def __init__(
        self,
        encoders: Mapping[str, EncoderSpec],
        frames_per_clip: int = 4,
        clips_at_once: int = 32,
        stamps: Mapping[str, Stamp] | None = None,
    ) -> None:
        """Takes `Recipe.encoders`.

        `frames_per_clip` is `DecodeSpec.frames_per_clip`: provenance states the grid of a film's clip.
        `clips_at_once` is `RuntimeSpec.clips_at_once`. `stamps` are the encoders' `weights_stamp`s, so that every
        worker takes the weights that the fingerprint speaks of; without them it takes what is there.
        """
        self._specs = dict(encoders)
        self._frames_per_clip = frames_per_clip
        self._clips_at_once = clips_at_once
        self._stamps = dict(stamps or {})
        self._engines: dict[str, Engine] = {}
        self._threads_before = 0

    def setup(self) -> None:
        """Builds the encoders. Raises ValueError when a spec does not fit its weights.

        Every weight is read once to be digested: some seconds for the full-size pair.
        """
        import torch

        from pipeline.features.encoder import build_encoder
        from pipeline.features.engine import Engine

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(1)  # sums split over threads would round differently
        for name, spec in self._specs.items():
            encoder = build_encoder(name, spec, self._frames_per_clip, self._stamps.get(name))
            self._engines[name] = Engine(encoder, device, self._clips_at_once)

    def process(self, batch: Sequence[Frames]) -> list[Features | Rejection]:
        """One `Features` a sample, or a rejection when an encoder's output is not finite in float16.

        A column's encoder refuses no sample, for columns never decide what a mixture holds: what is wrong stands
        in `FeaturesMeta.not_finite`.
        Raises ValueError when the pixels of an encoder are absent or not of its size.
        """
        for frames in batch:
            if absent := self._engines.keys() - frames.pixels.keys():
                raise ValueError(
                    f"{frames.key}: no pixels for encoder {sorted(absent)}, only for {sorted(frames.pixels)}"
                )
        tokens = {
            name: engine.encode([frames.pixels[name] for frames in batch]) for name, engine in self._engines.items()
        }
        return [
            self._outcome(frames, {name: each[i] for name, each in tokens.items()})
            for i, frames in enumerate(batch)
        ]

    def close(self) -> None:
        """Drops the encoders and gives PyTorch its threads back."""
        self._engines.clear()
        if self._threads_before:
            import torch

            torch.set_num_threads(self._threads_before)
            self._threads_before = 0

    def _outcome(self, frames: Frames, arrays: Mapping[str, NDArray[np.float16]]) -> Features | Rejection:
        columns: dict[str, NDArray[Any]] = {}
        losses: dict[str, StorageLoss] = {}
        not_finite: dict[str, str] = {}
        for name, array in arrays.items():
            store = self._specs[name].store
            if not is_finite(array):
                if store.place == "shards":
                    return self._reject(frames.key, name, array)
                not_finite[name], array = _what_is_not_finite(name, array), np.zeros_like(array)
            own = stored(name, array, store)
            columns |= own
            if len(array) and not store.is_lossless:
                losses[name] = storage_loss(name, array, own, store.pool)
        meta = FeaturesMeta(
            key=frames.key,
            clips=frames.meta.clips,
            dropped_clips=frames.meta.dropped_clips,
            salvaged=frames.meta.salvaged,
            encoders=tuple(engine.provenance for engine in self._engines.values()),
            storage_loss=losses,
            not_finite=not_finite,
        )
        return Features(meta, columns, {name: _kept(frames, name) for name in self._engines})

    def _reject(self, key: str, encoder: str, array: NDArray[np.float16]) -> Rejection:
        return Rejection(
            key=key,
            stage=self.name,
            reason=Reason.NON_FINITE_FEATURES,
            detail=_what_is_not_finite(encoder, array),
        )


def _what_is_not_finite(encoder: str, array: NDArray[np.float16]) -> str:
    clips = sorted(set(np.argwhere(~np.isfinite(array))[:, 0].tolist()))
    return (
        f"encoder {encoder!r} gave values that float16 cannot hold in clips {clips[:10]} of {len(array)}: "
        "look at the frames, or, if many samples are refused, at the encoder's weights"
    )


def _kept(frames: Frames, name: str) -> NDArray[np.uint8]:
    """The frames that the shards carry, passed on."""
    pixels = frames.mjpeg.get(name, frames.pixels[name])
    # an empty array of its own: a view would keep the pixels in memory
    return pixels if frames.meta.kept else np.empty((0, *pixels.shape[1:]), np.uint8)
