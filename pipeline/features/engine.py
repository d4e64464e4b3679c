"""`Engine`: the clips of many samples through one encoder, in batches of one shape.

A batch holds clips of equal frame count, in order, from as many samples as it takes; the last one is filled up
with black clips. So a device runs one shape a frame count, and a sample of one picture costs no batch of its own.
On a GPU, copies to and from it are pinned and overlap with the work on the batch before.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.features.compiled import compiled
from pipeline.features.encoder import VisionEncoder
from pipeline.features.tower import Tower
from schemas.arrays import EncoderProvenance

IN_FLIGHT = 2
"""Batches whose tokens are waited for while the next one is prepared."""

Place = tuple[int, int]
"""Sample and clip."""


class _Launched(NamedTuple):
    places: Sequence[Place]
    tokens: Tensor
    """`[clips_at_once, t, h, w, D] float16` on the CPU, filled when `done` says so."""
    done: "torch.cuda.Event | None"


class Engine:
    """Runs one encoder on one device.

    On a CPU it goes clip by clip, whatever `clips_at_once` says: a clip's tokens then do not depend on what runs
    beside it, to the last bit. On a GPU that holds within the rounding of
    the encoder's precision.

    Args:
        encoder: Moved to `device`, its weights rounded where its provenance says bfloat16; the module itself stays
            uncompiled.
        device: Where to run.
        clips_at_once: Clips a batch on a GPU.
    """

    def __init__(self, encoder: VisionEncoder, device: torch.device, clips_at_once: int) -> None:
        if encoder.provenance.precision == "bfloat16":
            _lower(encoder.tower)
        self._encoder = encoder.to(device)
        self._run = compiled(self._encoder) if encoder.provenance.compiled else self._encoder
        self._device = device
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self.clips_at_once = clips_at_once if device.type == "cuda" else 1
        """Halved for good each time the device has no memory for a batch."""

    @property
    def provenance(self) -> EncoderProvenance:
        """The encoder's."""
        return self._encoder.provenance

    def encode(self, samples: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float16]]:
        """Tokens of each sample; one without clips runs nothing.

        Args:
            samples: `[clips, T, S, S, 3]` RGB each; T may differ between samples.

        Returns:
            `[clips, t, h, w, D]` each; infinite or NaN where float16 cannot hold a value.

        Raises:
            ValueError: pixels of another shape or dtype.
            torch.OutOfMemoryError: the device has no memory for a single clip.
        """
        for pixels in filter(len, samples):
            self._encoder.check(pixels.shape, pixels.dtype.name)
        tokens = [self._room(pixels) for pixels in samples]
        waiting: deque[_Launched] = deque()
        with torch.inference_mode():
            for frames in sorted({pixels.shape[1] for pixels in samples if len(pixels)}):
                left = [(s, c) for s, p in enumerate(samples) if p.shape[1] == frames for c in range(len(p))]
                while left:
                    launched = self._launch(samples, left[: self.clips_at_once])
                    if launched is None:
                        _store(waiting, tokens, keep=0)
                        self._halve()
                        continue
                    left = left[len(launched.places) :]
                    waiting.append(launched)
                    _store(waiting, tokens, keep=IN_FLIGHT)
            _store(waiting, tokens, keep=0)
        return tokens

    def _room(self, pixels: NDArray[np.uint8]) -> NDArray[np.float16]:
        # Without clips nothing tells how many frames they would have.
        time = pixels.shape[1] if len(pixels) else self.provenance.grid[0]
        return np.empty((len(pixels), *self._encoder.tower.grid(time), self.provenance.width), np.float16)

    def _launch(self, samples: Sequence[NDArray[np.uint8]], places: Sequence[Place]) -> _Launched | None:
        """Starts a batch; None where the device has no memory for it."""
        first = samples[places[0][0]]
        batch = torch.empty(
            (self.clips_at_once, *first.shape[1:]), dtype=torch.uint8, pin_memory=self._copies is not None
        )
        pixels = batch.numpy()
        pixels[len(places) :] = 0
        for row, (sample, clip) in enumerate(places):
            pixels[row] = samples[sample][clip]
        try:
            tokens = self._run(self._sent(batch)).half()
            return self._returned(places, tokens)
        except torch.OutOfMemoryError:
            if self.clips_at_once == 1:
                raise
            return None

    def _sent(self, batch: Tensor) -> Tensor:
        if self._copies is None:
            return batch
        with torch.cuda.stream(self._copies):
            sent = batch.to(self._device, non_blocking=True)
        now = torch.cuda.current_stream(self._device)
        now.wait_stream(self._copies)
        sent.record_stream(now)
        return sent

    def _returned(self, places: Sequence[Place], tokens: Tensor) -> _Launched:
        if self._copies is None:
            return _Launched(places, tokens, None)
        room = torch.empty(tokens.shape, dtype=tokens.dtype, pin_memory=True)
        room.copy_(tokens, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record()
        return _Launched(places, room, done)

    def _halve(self) -> None:
        self.clips_at_once = (self.clips_at_once + 1) // 2
        if self._copies is not None:
            torch.cuda.empty_cache()


def _lower(tower: Tower) -> None:
    """Rounds weights to bfloat16, but for LayerScale's factors, which upstream multiplies with in float32."""
    for name, parameter in tower.named_parameters():
        if not name.endswith("gamma"):
            parameter.data = parameter.data.bfloat16()


def _store(waiting: deque[_Launched], tokens: list[NDArray[np.float16]], keep: int) -> None:
    """Puts the tokens of all but the last `keep` batches where they belong."""
    while len(waiting) > keep:
        launched = waiting.popleft()
        if launched.done is not None:
            launched.done.synchronize()
        rows = launched.tokens.numpy()
        for row, (sample, clip) in zip(rows, launched.places, strict=False):
            tokens[sample][clip] = row
