"""What a training uses of its machine, as its curves tell it: cores, memory, network and GPU."""

import time
from typing import Final

import psutil
import torch

USAGE: Final = (
    "cores_used",
    "machine_cpu_share",
    "machine_memory_share",
    "machine_received_mb_per_second",
    "machine_sent_mb_per_second",
    "gpu_busy_share",
)


class Usage:
    """Looks at this process, loader processes not counted, and at all that runs on its machine."""

    def __init__(self, device: torch.device) -> None:
        self._device = device if device.type == "cuda" and _has_nvml() else None
        psutil.cpu_percent()  # shares are those since the last look
        self._reset()

    def _reset(self) -> None:
        self._began, self._worked = time.monotonic(), time.process_time()
        self._network = psutil.net_io_counters()

    def since(self) -> dict[str, float]:
        """By the names of USAGE, since the last look; that of the GPU, of its last moments, where there is one."""
        seconds, worked = time.monotonic() - self._began, time.process_time() - self._worked
        before = self._network
        self._reset()
        used = {
            "cores_used": worked / seconds,
            "machine_cpu_share": psutil.cpu_percent() / 100,
            "machine_memory_share": psutil.virtual_memory().percent / 100,
            "machine_received_mb_per_second": (self._network.bytes_recv - before.bytes_recv) / seconds / 1e6,
            "machine_sent_mb_per_second": (self._network.bytes_sent - before.bytes_sent) / seconds / 1e6,
        }
        if self._device is not None:
            used["gpu_busy_share"] = torch.cuda.utilization(self._device) / 100
        return used


def _has_nvml() -> bool:
    """Whether a GPU can be asked what it does; PyTorch leaves that to a package of NVIDIA's."""
    try:
        torch.cuda.utilization()
    except (ModuleNotFoundError, RuntimeError):
        return False
    return True
