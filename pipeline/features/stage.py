"""The features stage: `Frames` in, `Features` out."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.runtime.contract import Stage
from schemas.arrays import Features, FeaturesMeta, Frames
from schemas.recipe import EncoderSpec
from schemas.rejection import Reason, Rejection

if TYPE_CHECKING:
    from pipeline.features.encoder import VisionEncoder

CLIPS_AT_ONCE = 25
"""Clips that go through an encoder together (Apollo, `encode_batch_size`)."""


class Encode(Stage[Frames, Features]):
    """Encodes each sample with every encoder of the recipe.

    A sample goes through alone, and on the CPU in one thread and float32: its features do not depend
    on its neighbours, the batch size or the number of workers, to the last bit (on one kind of
    processor). On a GPU, which is taken where PyTorch sees one, that is not promised.
    """

    name, version = "features", 1
    wants_gpu = True

    def __init__(
        self, encoders: Mapping[str, EncoderSpec], keep_frames: bool = False, frames_per_clip: int = 4
    ) -> None:
        """Takes `Recipe.encoders`; `keep_frames` passes the pixels on, beside the features.

        `frames_per_clip` is `DecodeSpec.frames_per_clip`: provenance states the grid of a film's clip.
        """
        self._specs = dict(encoders)
        self._keep_frames = keep_frames
        self._frames_per_clip = frames_per_clip
        self._encoders: dict[str, VisionEncoder] = {}
        self._threads_before = 0

    def setup(self) -> None:
        """Builds the encoders. Raises ValueError when a spec does not fit its weights.

        Every weight is read once to be digested: some seconds for the full-size pair.
        """
        import torch

        from pipeline.features.encoder import build_encoder

        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(1)  # sums split over threads would round differently
        for name, spec in self._specs.items():
            self._encoders[name] = build_encoder(name, spec, self._frames_per_clip).to(device)

    def process(self, batch: Sequence[Frames]) -> list[Features | Rejection]:
        """One `Features` a sample, or a rejection when an encoder's output is not finite in float16.

        Raises ValueError when the pixels of an encoder are absent or not of its size.
        """
        return [self._encode(frames) for frames in batch]

    def close(self) -> None:
        """Drops the encoders and gives PyTorch its threads back."""
        self._encoders.clear()
        if self._threads_before:
            import torch

            torch.set_num_threads(self._threads_before)
            self._threads_before = 0

    def _encode(self, frames: Frames) -> Features | Rejection:
        if absent := self._encoders.keys() - frames.pixels.keys():
            raise ValueError(
                f"{frames.key}: no pixels for encoder {sorted(absent)}, only for {sorted(frames.pixels)}"
            )
        arrays = {}
        for name, encoder in self._encoders.items():
            arrays[name] = _tokens(encoder, frames.pixels[name])
            if not np.isfinite(arrays[name]).all():
                return self._reject(frames.key, name, arrays[name])
        meta = FeaturesMeta(
            key=frames.key,
            clips=frames.meta.clips,
            dropped_clips=frames.meta.dropped_clips,
            salvaged=frames.meta.salvaged,
            encoders=tuple(encoder.provenance for encoder in self._encoders.values()),
        )
        return Features(meta, arrays, {name: self._kept(frames.pixels[name]) for name in self._encoders})

    def _kept(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        # an empty array of its own: a view would keep the pixels in memory
        return pixels if self._keep_frames else np.empty((0, *pixels.shape[1:]), np.uint8)

    def _reject(self, key: str, encoder: str, array: NDArray[np.float16]) -> Rejection:
        clips = sorted(set(np.argwhere(~np.isfinite(array))[:, 0].tolist()))
        detail = (
            f"encoder {encoder!r} gave values that float16 cannot hold in clips {clips[:10]} of {len(array)}: "
            "look at the frames, or, if many samples are refused, at the encoder's weights"
        )
        return Rejection(key=key, stage=self.name, reason=Reason.NON_FINITE_FEATURES, detail=detail)


def _tokens(encoder: "VisionEncoder", pixels: NDArray[np.uint8]) -> NDArray[np.float16]:
    """`[clips, T, S, S, 3] uint8` to `[clips, t, h, w, D] float16`; no clips run nothing."""
    import torch

    if not len(pixels):
        return np.empty((0, *encoder.provenance.grid, encoder.provenance.width), np.float16)
    with torch.inference_mode():
        chunks = [
            encoder(torch.tensor(pixels[start : start + CLIPS_AT_ONCE])).half().cpu().numpy()
            for start in range(0, len(pixels), CLIPS_AT_ONCE)
        ]
    return np.concatenate(chunks)
