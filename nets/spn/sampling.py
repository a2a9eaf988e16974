"""Many fills of one hole, and the best of them: how the probabilistic SPN is evaluated (Table 2).

In: pictures, masks and noise for K samples of each. Out: fills. A file of its own because evaluation wants it and
training does not.
"""

import torch
from torch import Tensor

from nets.spn.network import SPN


def sample_fills(network: SPN, image: Tensor, mask: Tensor, noise: Tensor) -> Tensor:
    """Image N3HW, mask N1HW, noise K x N x (noise_shape) -> inpainted K x N3HW in [0, 1], one run for each of the K."""
    return torch.stack([network(image, mask, own)["inpainted"].clamp(0, 1) for own in noise])


def best_of(fills: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """Fills K x N3HW, image N3HW in [0, 1] -> for each picture the fill of the highest PSNR, N3HW, and its number, N.

    As in the authors' code both are truncated to 256 levels before they are compared; K is 5 there.
    """
    error = ((fills * 255).floor() - (image * 255).floor()).square().mean(dim=(2, 3, 4))
    best = error.argmin(dim=0)
    return fills[best, torch.arange(len(best), device=best.device)], best
