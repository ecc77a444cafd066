"""torch's own errors, raised by torch itself where a machine without a GPU can raise them."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from service.engine.faults import fault_of, named_faults
from service.errors import EngineBroken, OutOfMemory


def test_an_allocation_that_fails_is_out_of_memory_and_lets_go_of_its_tensors() -> None:
    left: list[weakref.ref[torch.Tensor]] = []

    @named_faults
    def forward(size: int) -> torch.Tensor:
        activation = torch.zeros(1000)
        left.append(weakref.ref(activation))
        return torch.empty(size) + activation.sum()

    with pytest.raises(OutOfMemory, match="no memory left") as caught:
        forward(10**15)
    assert "\n" not in caught.value.detail
    assert caught.value.__context__ is None
    gc.collect()
    assert left[0]() is None


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."), OutOfMemory),
        (RuntimeError("CUDA error: out of memory"), OutOfMemory),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), OutOfMemory),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), OutOfMemory),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), OutOfMemory),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"), OutOfMemory),
        (RuntimeError("GET was unable to find an engine to execute this computation"), OutOfMemory),
        (RuntimeError("FIND was unable to find an engine to execute this computation"), OutOfMemory),
        (MemoryError(), OutOfMemory),
        (RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors …"), EngineBroken),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), EngineBroken),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"), EngineBroken),
        (RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"), EngineBroken),
        (RuntimeError("CUDA driver error: unspecified launch failure"), EngineBroken),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if …"), type(None)),
        (RuntimeError("shape '[2, 3]' is invalid for input of size 5"), type(None)),
    ],
)
def test_each_error_has_its_name(error: Exception, fault: type) -> None:
    assert type(fault_of(error)) is fault


def test_other_errors_pass() -> None:
    @named_faults
    def forward() -> None:
        torch.zeros(2) @ torch.zeros(3)

    with pytest.raises(RuntimeError, match="size"):
        forward()
