"""What a training uses of its machine, as its curves tell it: cores, memory, network and GPU."""

import math
import time
from typing import Final

import psutil
import torch

GPU_BUSY: Final = "gpu_busy_share"
USAGE: Final = (
    "cores_used",
    "machine_cpu_share",
    "machine_memory_share",
    "machine_received_mb_per_second",
    "machine_sent_mb_per_second",
    GPU_BUSY,
)


class Usage:
    """Looks at this process, loader processes not counted, and at all that runs on its machine."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        psutil.cpu_percent()  # shares are those since the last look
        self._reset()

    def _reset(self) -> None:
        self._began, self._worked = time.monotonic(), time.process_time()
        self._received, self._sent = _network_bytes()

    def since(self) -> dict[str, float]:
        """By the names of USAGE, since the last look; with a GPU what it did in its last moments, NaN where it is mute.

        All ranks have the same names, whatever their machines can tell.
        """
        seconds, worked = time.monotonic() - self._began, time.process_time() - self._worked
        received, sent = self._received, self._sent
        self._reset()
        used = {
            "cores_used": worked / seconds,
            "machine_cpu_share": psutil.cpu_percent() / 100,
            "machine_memory_share": psutil.virtual_memory().percent / 100,
            "machine_received_mb_per_second": (self._received - received) / seconds / 1e6,
            "machine_sent_mb_per_second": (self._sent - sent) / seconds / 1e6,
        }
        return used | ({GPU_BUSY: _gpu_busy(self._device)} if self._device.type == "cuda" else {})


def _network_bytes() -> tuple[int, int]:
    """Received and sent by the machine so far; none where it has no network at all."""
    counters = psutil.net_io_counters()
    return (counters.bytes_recv, counters.bytes_sent) if counters else (0, 0)


def _gpu_busy(device: torch.device) -> float:
    """Share of its last moments in which the GPU had work; NaN without NVML, whose Python side is another package."""
    try:
        return torch.cuda.utilization(device) / 100
    except Exception:  # noqa: BLE001 - NVML has faults of its own, and no measure ends a training
        return math.nan
