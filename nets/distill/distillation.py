"""The distillation terms of DGI for any student: of its encoder (Eqs. 2 to 4) and of its attention (Eq. 9).

In: features of student and teacher by level, the hole, and the meta-networks. Out: scalars by name. The teacher's
features carry no gradient; gamma, rho, phi and t are differentiable, for the phase that trains them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nets.distill.meta import Alignment, MetaNetworks
from nets.distill.network import reduce_hole
from nets.layers.transfer import attention_transfer
from nets.losses import importance_weighted_l2
from nets.objective import Terms


@dataclass(frozen=True)
class Attended:
    """Queries and keys of an attention, and the features N C h w from which they come."""

    query: Tensor
    """N hw D."""
    key: Tensor
    """N K D."""
    decoded: Tensor


@dataclass(frozen=True)
class Features:
    """Features of one network: the encoder's from the finest level on, N C h w, and its attentions."""

    encoded: Sequence[Tensor] = ()
    attended: Sequence[Attended] = ()


@dataclass(frozen=True)
class Distillation:
    """Distillation terms, as many as there are meta-networks for."""

    meta: MetaNetworks
    alignment: Alignment | None

    def terms(self, student: Features, teacher: Features, held: Sequence[Tensor], mask: Tensor) -> Terms:
        """`cross`, `self` and `attention`, those that have meta-networks; hole N1HW at full resolution.

        `held` are the student's features of all levels but the first, without a gradient: targets of self-distillation.
        """
        terms: Terms = {}
        if len(self.meta.gamma):
            terms["cross"] = self._distill_cross(student.encoded, teacher.encoded, mask)
        if self.alignment is not None:
            terms["self"] = self._distill_self(self.alignment, student.encoded, held, mask)
        if len(self.meta.t):
            terms["attention"] = self._distill_attention(student.attended, teacher.attended, mask)
        return terms

    def _distill_cross(self, student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor) -> Tensor:
        """sum over levels of rho(x*) |(x - gamma(x*)) M|^2 (Eq. 2)."""
        levels = zip(self.meta.gamma, self.meta.rho, student, teacher, strict=True)
        return torch.stack(
            [importance_weighted_l2(x, gamma(y), rho(y), reduce_hole(mask, x)) for gamma, rho, x, y in levels]
        ).sum()

    def _distill_self(
        self, alignment: Alignment, encoded: Sequence[Tensor], held: Sequence[Tensor], mask: Tensor
    ) -> Tensor:
        """sum over levels of phi(x_l+1) |(f_l(x_l) - x_l+1) M_l+1|^2, the deeper level the teacher (Eq. 3)."""
        levels = zip(self.meta.phi, alignment(encoded), held, strict=True)
        return torch.stack([importance_weighted_l2(x, y, phi(y), reduce_hole(mask, y)) for phi, x, y in levels]).sum()

    def _distill_attention(self, student: Sequence[Attended], teacher: Sequence[Attended], mask: Tensor) -> Tensor:
        """sum over attentions of the distance of their shares, the mean over the queries in the hole (Eq. 9)."""
        distances = []
        for number, (learned, target) in enumerate(zip(student, teacher, strict=True)):
            hole, trust = reduce_hole(mask, learned.decoded).flatten(1), self.meta.trust(number, target.decoded)
            total = attention_transfer(learned.query, learned.key, target.query, target.key, trust, hole)
            distances.append((total / hole.sum(dim=1).clamp_min(1)).mean())
        return torch.stack(distances).sum()
