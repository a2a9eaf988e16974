"""One small function per loss term: float tensors in, one scalar out, the mean over all elements unless it says so."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
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


def total_variation_l2(image: Tensor) -> Tensor:
    """Twice the mean squared differences of vertical and of horizontal neighbours, N3HW -> scalar (DeepGIN's code)."""
    down, across = image[:, :, 1:] - image[:, :, :-1], image[..., 1:] - image[..., :-1]
    return 2 * (down.square().mean() + across.square().mean())


def perceptual(of: Mapping[str, Tensor], target: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """sum over layers of weight * mean|of - target|, feature maps by name (DeepGIN Eq. 4, Johnson et al. 2016)."""
    return _weighted_sum({name: F.l1_loss(of[name], target[name]) for name in weights}, weights)


def gram(features: Tensor) -> Tensor:
    """Products of channels, summed over positions and divided by their number C*H*W: N C H W -> N C C (Gatys 2016)."""
    flat = features.flatten(2)
    return flat @ flat.mT / flat[0].numel()


def style_l1(of: Mapping[str, Tensor], target: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """sum over layers of weight * mean|gram(of) - gram(target)|, feature maps by name (DeepGIN Eq. 5)."""
    return _weighted_sum({name: F.l1_loss(gram(of[name]), gram(target[name])) for name in weights}, weights)


def style_l2(of: Mapping[str, Tensor], target: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """sum over layers of weight * mean (gram(of) - gram(target))^2, feature maps by name (DeepGIN's code)."""
    return _weighted_sum({name: F.mse_loss(gram(of[name]), gram(target[name])) for name in weights}, weights)


def feature_matching(of: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """Mean over layers of mean|of - target|, a critic's feature maps of both pictures (pix2pixHD, Eq. 4)."""
    first, *rest = (F.l1_loss(o, t) for o, t in zip(of, target, strict=True))
    return sum(rest, start=first) / len(of)


def _weighted_sum(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    first, *rest = (weights[name] * loss for name, loss in losses.items())
    return sum(rest, start=first)


def wasserstein_critic(real: Tensor, fake: Tensor) -> Tensor:
    """E[D(fake)] - E[D(real)] (Gulrajani et al., NIPS 2017, Eq. 3)."""
    return fake.mean() - real.mean()


def gradient_penalty(scores: Tensor, image: Tensor) -> Tensor:
    """E[(|gradient of a score by its picture| - 1)^2], scores N1 of pictures N3HW (WGAN-GP, Gulrajani et al. 2017)."""
    (gradient,) = torch.autograd.grad(scores.sum(), image, create_graph=True)
    penalty: Tensor = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty


def cross_entropy_generator(fake: Tensor) -> Tensor:
    """-E[log D(fake)] of logits (SPN's code: non-saturating; Eq. 11 prints another sign)."""
    return F.softplus(-fake).mean()


def cross_entropy_critic(real: Tensor, fake: Tensor) -> Tensor:
    """-E[log D(real)] - E[log(1 - D(fake))] of logits (SPN Eq. 11)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def gaussian_divergence(mean: Tensor, deviation: Tensor, mode: Literal["paper", "code"]) -> Tensor:
    """Mean over elements of KL(q || p), q = N(mean, deviation^2), p = N(0, 1) (SPN Eq. 6); the code has KL(p || q)."""
    spread = deviation.square()
    if mode == "paper":
        return ((mean.square() + spread - 1) / 2 - deviation.log()).mean()
    return ((1 + mean.square()) / (2 * spread) + deviation.log() - 0.5).mean()


def perceptual_diversity(
    one: Mapping[str, Tensor], other: Mapping[str, Tensor], mask: Tensor, mode: Literal["paper", "code"]
) -> Tensor:
    """How alike the feature maps of two fills are in the hole N1HW, their distance inverted (SPN Eq. 14).

    Paper: mean over layers of 1 / (sum|(a - b) M| + 1e-5), norms as printed. A mean in their place has a gradient that
    is larger by the number of elements of a map, and nothing else is learned. Code: 1 / (sum over layers of
    mean|(a - b) M| / mean M + 1e-5). Both of each sample, then the mean over samples: the authors invert the mean of a
    GPU's batch, which makes the loss another one for every number of GPUs.
    """
    holes = [F.interpolate(mask, size=maps.shape[2:], mode="nearest") for maps in one.values()]
    differences = [((one[name] - other[name]) * hole).abs() for name, hole in zip(one, holes, strict=True)]
    if mode == "paper":
        norms = torch.stack([difference.sum(dim=(1, 2, 3)) for difference in differences])
        return (1 / (norms + 1e-5)).mean()
    distances = torch.stack([difference.mean(dim=(1, 2, 3)) for difference in differences])
    shares = torch.stack([m.mean(dim=(1, 2, 3)) for m in holes])
    shares = shares.clamp_min(1e-5)  # a small hole may have no pixel at the deepest layer
    return (1 / ((distances / shares).sum(dim=0) + 1e-5)).mean()


def confidence_weighted_l1(predicted: Tensor, image: Tensor, mask: Tensor, confidence: Tensor) -> Tensor:
    """mean|(P-I)w| / mean(M) + mean|(P-I)(1-M)| / mean(1-M), each of a picture's own mask N1HW (DGI, R_recon).

    GMCNN's code (Wang et al. 2018) divides by the means of the whole batch, all of whose holes have one size.
    """
    error, known = (predicted - image).abs(), 1 - mask
    parts = (((error * w).mean(dim=(1, 2, 3)), m.mean(dim=(1, 2, 3))) for w, m in ((confidence, mask), (known, known)))
    hole, rest = (total / share.clamp_min(1 / mask[0].numel()) for total, share in parts)
    return (hole + rest).mean()


def importance_weighted_l2(of: Tensor, target: Tensor, importance: Tensor, mask: Tensor) -> Tensor:
    """sum over channels of importance NC * mean over positions of ((of - target) M)^2, N C h w and N1hw (DGI Eq. 2)."""
    distances = ((of - target) * mask).square().mean(dim=(2, 3))
    return (importance * distances).sum(dim=1).mean()
