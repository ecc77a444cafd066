"""What torch raises when a device runs out of memory or breaks → the failures that the batcher knows."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch

from service.errors import EngineBroken, OutOfMemory, ServiceError

Result = TypeVar("Result")

# What the libraries say when an allocation fails: CUDA itself, cuBLAS making its workspace, cuDNN before its version 9
# and since, torch's CPU allocator.
_OUT_OF_MEMORY = (
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    "can't allocate memory",
    # torch tries cuDNN's plans for a convolution one by one, and says this when none had room for its workspace.
    "unable to find an engine to execute this computation",
)
# Any other error of the CUDA runtime leaves a context in which every later call fails too.
_BROKEN = ("CUDA error", "CUDA driver error", "Triton Error [CUDA]", "cuDNN error", "CUBLAS_STATUS")
# The one that does not: it is said before anything runs.
_REFUSED = "CUDNN_STATUS_NOT_SUPPORTED"


def named_faults(method: Callable[..., Result]) -> Callable[..., Result]:
    """Raise OutOfMemory or EngineBroken in the place of torch's own errors; others pass."""

    @wraps(method)
    def call(*arguments: Any) -> Result:
        try:
            return method(*arguments)
        except (RuntimeError, MemoryError) as error:
            fault = fault_of(error)
            if fault is None:
                raise
        # Raised out here, it has no context: that would keep the failed forward's frames, and all their tensors, alive.
        if isinstance(fault, OutOfMemory) and torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise fault

    return call


def fault_of(error: Exception) -> ServiceError | None:
    """The failure that an error of torch stands for, if any."""
    text = str(error)
    line = (text.splitlines() or [type(error).__name__])[0]
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(words in text for words in _OUT_OF_MEMORY):
        return OutOfMemory(f"the device has no memory left for this image and prompt: {line}")
    if any(words in text for words in _BROKEN) and _REFUSED not in text:
        return EngineBroken(f"the device does not answer any more: {line}")
    return None
