"""One small function per loss term: float tensors in, one scalar out, the mean over all elements unless it says so."""

from torch import Tensor
from torch.nn import functional as F


def hole_weighted_l1(predicted: Tensor, image: Tensor, mask: Tensor, hole_weight: float) -> Tensor:
    """mean|(P-I)M| * hole_weight + mean|(P-I)(1-M)| over N3HW with M N1HW (DeepGIN Eq. 1, lambda_hole)."""
    error = (predicted - image).abs()
    return hole_weight * (error * mask).mean() + (error * (1 - mask)).mean()


def hinge_generator(scores: list[Tensor]) -> Tensor:
    """-sum over critics of E[D(fake)] (DeepGIN Eq. 2)."""
    return -sum((s.mean() for s in scores[1:]), start=scores[0].mean())


def hinge_critic(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """sum over critics of E[relu(1 - D(real))] + E[relu(1 + D(fake))] (DeepGIN Eq. 3)."""
    pairs = zip(real, fake, strict=True)
    first, *rest = (F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in pairs)
    return sum(rest, start=first)


def total_variation(image: Tensor) -> Tensor:
    """Mean absolute difference of vertical and of horizontal neighbours, N3HW -> scalar (DeepGIN Eq. 6, L1 form)."""
    return (image[:, :, 1:] - image[:, :, :-1]).abs().mean() + (image[..., 1:] - image[..., :-1]).abs().mean()
