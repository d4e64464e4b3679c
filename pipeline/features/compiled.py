"""An encoder's forward as a compiled graph: fewer passes over memory, other last bits."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.exc import BackendCompilerFailed

from schemas.base import InputError

SHAPES = 64
"""Graphs an encoder may have: one a frame count, and one more each time a device's memory halves the batch."""


def compiled(encoder: nn.Module) -> Callable[[Tensor], Tensor]:
    """`encoder`, compiled when a shape first comes: one graph of fixed sizes, no part of it left to Python.

    Without CUDA graphs: a full-size batch keeps a device busy for longer than its kernels take to launch, and a
    replayed graph would hold its memory for ever, so that halving the batch would free nothing.

    Raises (when called):
        InputError: this machine cannot compile.
    """
    compile_: Any = torch.compile  # its stub lacks the last two
    graph = compile_(encoder, dynamic=False, fullgraph=True, isolate_recompiles=True, recompile_limit=SHAPES)

    def run(frames: Tensor) -> Tensor:
        try:
            tokens: Tensor = graph(frames)
        except BackendCompilerFailed as error:
            told = str(error.inner_exception).strip().partition("\n")[0]
            raise InputError(
                f"an encoder with compiled: true cannot be compiled here: {told}; install a C++ compiler "
                "(g++, and on a GPU Triton), or set `compiled: false`"
            ) from None
        return tokens

    return run
