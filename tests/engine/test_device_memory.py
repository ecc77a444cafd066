from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from service.engine.device_memory import device_memory_bytes

IDLE = """
import sys
from service.engine.device_memory import device_memory_bytes
print(device_memory_bytes(), "torch" in sys.modules)
"""


def test_to_ask_imports_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", IDLE], capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout == "{} False\n"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_there_is_none() -> None:
    assert device_memory_bytes() == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_what_is_allocated_is_told() -> None:
    kept = torch.zeros(1 << 20, device="cuda")
    told = device_memory_bytes()
    assert kept.nbytes <= told["allocated"] <= told["peak"] <= told["reserved"]
