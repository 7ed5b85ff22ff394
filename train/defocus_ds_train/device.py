"""Where a run computes and with how many bits: chosen from what the machine has."""

from __future__ import annotations

import importlib.util
from contextlib import AbstractContextManager, nullcontext

import torch

from defocus_ds.errors import InputError

__all__ = [
    "DEVICES",
    "autocast",
    "choose_compile",
    "choose_device",
    "choose_precision",
    "full_fp32",
    "has_bf16",
    "is_out_of_memory",
]

DEVICES = ("auto", "cuda", "mps", "cpu")
_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
# the CPU's allocator, CUDA's context and libraries raise no class of their own for it
_NO_MEMORY = (
    "can't allocate memory",
    "out of memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUFFT_ALLOC_FAILED",
)
_OLDEST_TRITON = (7, 0)  # compute capability that Triton generates code for


def choose_device(name: str = "auto", *, index: int = 0) -> torch.device:
    """The device of that name; "auto" takes CUDA, else Apple's MPS, else the CPU.

    Args:
        name: one of `DEVICES`.
        index: which GPU, where there are several.

    Raises:
        InputError: unknown, or this machine or this build of torch has none.
    """
    if name not in DEVICES:
        raise InputError(f"device {name!r}: one of {', '.join(DEVICES)}.")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next((kind for kind, present in there.items() if present), "cpu")
    if not there.get(name, True):
        raise InputError(
            f"device {name}: torch {torch.__version__} finds none here; give --device cpu, or "
            "install a build of torch for it."
        )
    return torch.device(name, index) if name == "cuda" else torch.device(name)


def choose_precision(asked: str, device: torch.device) -> str:
    """ "fp32", "bf16" or "fp16"; "auto" takes bf16 on a GPU that has it, else fp32.

    Raises:
        InputError: the device cannot compute in it.
    """
    if asked == "auto":
        return "bf16" if device.type == "cuda" and has_bf16(device) else "fp32"
    if asked == "fp16" and device.type == "cpu":
        raise InputError("precision fp16 needs a GPU; on the CPU give --set precision=fp32.")
    if asked == "bf16" and device.type == "cuda" and not has_bf16(device):
        raise InputError("precision bf16: this GPU has none; give --set precision=fp16.")
    return asked


def has_bf16(device: torch.device) -> bool:
    """Whether a CPU or a GPU itself computes in bf16; emulated it is slow and takes memory."""
    if device.type == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def choose_compile(asked: str, device: torch.device, *, processes: int = 1) -> str:
    """ "off", "default" or "reduce-overhead" (with CUDA graphs).

    "auto" is "off" but on a GPU that torch can compile for; there it is "reduce-overhead", and
    "default" for several processes, whose exchange of gradients is no part of a graph.
    """
    if asked != "auto":
        return asked
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return "off"
    if torch.cuda.get_device_capability(device) < _OLDEST_TRITON:
        return "off"
    return "reduce-overhead" if processes == 1 else "default"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Context in which convolutions compute in ``precision``; a no-op for fp32."""
    half = _HALF.get(precision)
    return torch.autocast(device.type, dtype=half or torch.bfloat16, enabled=half is not None)


def full_fp32(precision: str) -> AbstractContextManager[object]:
    """Context for figures that must not depend on the device: cuDNN would take 10 bits of mantissa
    of a float32 otherwise (TF32).  A no-op for other precisions."""
    if precision != "fp32":
        return nullcontext()
    exact: AbstractContextManager[object] = torch.backends.cudnn.flags(
        enabled=True, allow_tf32=False
    )
    return exact


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch failed for memory."""
    return isinstance(error, torch.OutOfMemoryError) or any(
        words in str(error) for words in _NO_MEMORY
    )
