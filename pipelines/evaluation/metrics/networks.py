"""Networks of metrics: LPIPS, and the features of FID, KID and the discriminative scores.

In: names of metrics, and files of weights in the folder LACUNA_WEIGHTS. Out: distances of pairs, and features of
pictures. Nothing is downloaded. Pictures pass in batches of one shape, the last one filled up, so no number depends on
how pairs are shared among workers.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from infra import storage
from infra.weights import WeightsError, hash_weights, load_weights, resolve_weights_folder
from infra.weights_import import read_state_dict
from nets.features import VGGFeatures
from nets.inception import SIDE_PX, load_fid_inception
from nets.lpips import LPIPS, average_maps, sum_maps
from pipelines.evaluation.metrics.levels import Levels
from pipelines.evaluation.metrics.names import REGISTRY, select_metrics
from pipelines.evaluation.metrics.pairs import Columns, check_pictures
from pipelines.records import UsageError

INCEPTION_FILE: Final = "pt_inception-2015-12-05-6726825d.pth"
INCEPTION_SHA256: Final = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""The file that pytorch-fid and torch-fidelity publish and read."""
_CPU_BATCH: Final = (8, 8 * 64 * 64)
"""Most pairs or pictures of a batch on a CPU, and their pixels: more at once take memory, and no less time."""
_GPU_BATCH: Final = 32
_MIN_SIDE_PX: Final = {"lpips_alex": 31, "lpips_vgg": 16, "vgg16": 16, "inception": 11}
"""Least sides that the networks' pools take."""
_FILES: Final = {
    "lpips_alex": ("alexnet_features", "lpips_alex_v0.1"),
    "lpips_vgg": ("vgg16_features", "lpips_vgg_v0.1"),
    "vgg16": ("vgg16_features",),
}


class VGG16Means(nn.Module):
    """Means over positions of VGG-16's deepest activations, relu5_3: 512 features of a picture."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.backbone = VGGFeatures(16, ("relu5_3",), state)

    def forward(self, image: Tensor) -> Tensor:
        """N3HW in [0, 1] -> N 512."""
        maps: dict[str, Tensor] = self.backbone(image)
        return maps["relu5_3"].mean(dim=(2, 3))


@dataclass(frozen=True)
class MetricNetworks:
    """Loaded networks by name, their device, and the SHA-256 of each file of weights."""

    modules: Mapping[str, nn.Module]
    device: torch.device
    digests: Mapping[str, str]

    def compare_pairs(self, network: str, images: Levels, fills: Levels, masks: Levels | None = None) -> Columns:
        """Compare N pairs by LPIPS: whole pictures and, given masks, the mean of the map over hole pixels.

        The map is the published `spatial` one, each layer resized to the picture bilinearly. Raises UsageError.
        """
        lpips = self._get(network, images)
        assert isinstance(lpips, LPIPS)

        def compare(image: Tensor, fill: Tensor, *mask: Tensor) -> Tensor:
            maps = lpips.compare(image, fill)
            columns = [average_maps(maps).double()]
            if mask:
                total = (sum_maps(maps, (image.shape[2], image.shape[3])) * mask[0]).sum(
                    dim=(1, 2), dtype=torch.float64
                )
                columns.append(total / mask[0].sum(dim=(1, 2)))
            return torch.stack(columns, dim=1)

        found = self._run(network, compare, images, fills, *(() if masks is None else (masks,)))
        return {f"{network}_{name}": column for name, column in zip(("image", "hole"), found.T, strict=False)}

    def compute_features(self, network: str, pictures: Levels) -> NDArray[np.float32]:
        """Features N D of pictures NHWC; raises UsageError for a network that is not loaded, and for its input."""
        check_pictures("pictures", pictures)
        module = self._get(network, pictures)
        return self._run(network, module, pictures).astype(np.float32)

    def _get(self, network: str, pictures: Levels) -> nn.Module:
        if network not in self.modules:
            raise UsageError(f"{network} is not loaded, only {', '.join(self.modules)}: load it with its metric's name")
        height, width = pictures.shape[1:3]
        if min(height, width) < (least := _MIN_SIDE_PX[network]):
            raise UsageError(f"{network}: pictures are {width}x{height} px: height and width must be at least {least}")
        return self.modules[network]

    def _run(self, network: str, work: Callable[..., Tensor], *inputs: Levels) -> NDArray[np.float64]:
        """Pass inputs in batches of one shape, the last filled up with its last row; rows as float64."""
        rows, size = [], _choose_batch(network, self.device, inputs[0].shape)
        with torch.inference_mode(), _exact_convolutions():
            for start in range(0, len(inputs[0]), size):
                parts = [levels[start : start + size] for levels in inputs]
                full = [np.concatenate([part, part[-1:].repeat(size - len(part), axis=0)]) for part in parts]
                made = work(*(self._to_tensor(levels) for levels in full))
                rows.append(made[: len(parts[0])].double().cpu().numpy())
        return np.concatenate(rows)

    def _to_tensor(self, levels: Levels) -> Tensor:
        """Pictures N3HW in [0, 1], or masks NHW in {0, 1}."""
        tensor = torch.from_numpy(levels).to(self.device)
        return tensor.permute(0, 3, 1, 2).float() / 255 if tensor.ndim == 4 else tensor


def load_metric_networks(names: Sequence[str], device: str | torch.device = "cpu") -> MetricNetworks:
    """Networks that these metrics need, on a device; metrics that need none are passed over.

    Raises UsageError for a missing or wrong file of weights, with the metric that needs it and how to make it.
    """
    needed = {metric.network: name for name in names if (metric := REGISTRY[name]).network is not None}
    modules: dict[str, nn.Module] = {}
    digests: dict[str, str] = {}
    for network, name in needed.items():
        try:
            module, files = _load(str(network))
        except WeightsError as fault:
            raise UsageError(f"{name} needs the weights of {network}: {fault}") from None
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        modules[str(network)] = module.to(device).eval()
        digests |= files
    return MetricNetworks(modules, torch.device(device), digests)


def measure_diversity(
    fills: NDArray[np.uint8], names: Sequence[str], networks: MetricNetworks | None = None
) -> Columns:
    """Diversity of F fills of each of N pairs, F N H W 3: mean over all twos of the fills, N each by name.

    `diversity_l1` is in percent of 255 over all pixels. Raises UsageError for fewer than two fills.
    """
    if fills.ndim != 5 or len(fills) < 2:
        raise UsageError(f"fills are {fills.shape}: give two or more of each pair in the shape (F, N, H, W, 3)")
    for number in range(len(fills)):
        check_pictures("fills", fills[number])
    columns: Columns = {}
    for name in (metric.name for metric in select_metrics(list(names), "fills")):
        twos = []
        for one, two in combinations(fills, 2):
            if name == "diversity_l1":
                twos.append(np.abs(one.astype(np.int16) - two).mean(axis=(1, 2, 3), dtype=np.float64) / 2.55)
            elif networks is None:
                raise UsageError(f"{name} needs a network: pass what load_metric_networks returns")
            else:
                twos.append(networks.compare_pairs("lpips_alex", one, two)["lpips_alex_image"])
        columns[name] = np.mean(twos, axis=0)
    return columns


def _choose_batch(network: str, device: torch.device, shape: tuple[int, ...]) -> int:
    """Size of batches: it depends on the network, the device and the pictures' size NHWC alone."""
    if device.type != "cpu":
        return _GPU_BATCH
    most, pixels = _CPU_BATCH
    side = SIDE_PX if network == "inception" else 0
    return min(most, max(1, pixels // max(shape[1] * shape[2], side * side)))


def _load(network: str) -> tuple[nn.Module, dict[str, str]]:
    """Network with its weights, and their digests by file; raises WeightsError."""
    if network == "inception":
        return _load_inception()
    files = _FILES[network]
    states = load_weights(files)
    if network == "vgg16":
        return VGG16Means(states[files[0]]), hash_weights(files)
    features, heads = (states[name] for name in files)
    return LPIPS("alex" if network == "lpips_alex" else "vgg", features, heads), hash_weights(files)


def _load_inception() -> tuple[nn.Module, dict[str, str]]:
    """FID's Inception network from the published file, which lies in the folder of weights as it is."""
    uri = storage.join(resolve_weights_folder(), INCEPTION_FILE)
    if not storage.exists(uri):
        raise WeightsError(
            f"no file at {uri}. Bring the file of that name from pytorch-fid's release fid_weights, as nothing is "
            "downloaded; LACUNA_WEIGHTS names the folder. fid_vgg16 needs no such file, but is another number"
        )
    data = storage.read_bytes(uri)
    if (digest := hashlib.sha256(data).hexdigest()) != INCEPTION_SHA256:
        raise WeightsError(f"{uri} has the digest {digest}, not {INCEPTION_SHA256}: it is damaged or another file")
    return load_fid_inception(read_state_dict(data)), {INCEPTION_FILE: digest}


@contextmanager
def _exact_convolutions() -> Iterator[None]:
    """Convolutions of GPUs in full float32, and the same way each time."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield
