"""How much memory a restoration may take on a device, and what to do when it was too much."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import torch

from defocus_ds.errors import InputError
from defocus_ds_train.restore_network import ResidualNet

__all__ = ["budget_pixels", "free_memory"]

# of what is free: others live on the machine too
_SHARE = {"cpu": 0.5, "cuda": 0.8, "mps": 0.5}
_UNKNOWN = 4 * 2**30
# the photo, its luma, the change and the encoded result, in bytes of each pixel, 16-bit RGB
_FRAME_BYTES = 40


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device now, or 4 GiB where nobody says.

    On the CPU the lower of what the system and the control group (a container's limit) allow.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    found = []
    with suppress(OSError, IndexError, ValueError):
        meminfo = Path("/proc/meminfo").read_text()
        found.append(int(meminfo.split("MemAvailable:")[1].split()[0]) * 1024)
    with suppress(OSError, ValueError):  # "max" where there is no limit
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        found.append(limit - int((group / "memory.current").read_text()))
    if not found:
        with suppress(OSError, ValueError, AttributeError):
            found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    return max(0, min(found, default=_UNKNOWN))


def budget_pixels(
    network: ResidualNet, frame: tuple[int, int], *, limit_mb: float | None = None
) -> float:
    """Pixels the network may compute at once.

    Args:
        network: on its device.
        frame: (height, width); on the CPU its own arrays count too.
        limit_mb: memory for the restoration in MB (2^20 bytes); default: half of what is free
            on the CPU, four fifths on a GPU.

    Raises:
        InputError: the frame alone takes more.
    """
    device = network.device
    if limit_mb is None:
        network.free_cache()  # what torch keeps of the photo before is no less free
        memory = free_memory(device) * _SHARE.get(device.type, 0.5)
    else:
        memory = limit_mb * 2**20
    own = _FRAME_BYTES * frame[0] * frame[1] if device.type == "cpu" else 0
    if memory <= own:
        raise InputError(
            f"a photo of {frame[1]}x{frame[0]} alone takes {own / 2**20:.0f} MB; the memory "
            f"allows {memory / 2**20:.0f}. Give more with --memory-limit, or free some."
        )
    return (memory - own) / network.bytes_per_pixel
