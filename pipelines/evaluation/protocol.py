"""Protocols of an evaluation: everything that decides what a score means, by name.

In: a name, and settings of the user in place of the protocol's own. Out: an `EvalProtocol`, fitted to a model and a
dataset. Its fields stand in the passport of a scorecard: scores by different protocols are not compared.
"""

from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Self

from nets.filling import ProcedureName
from pipelines.evaluation.metrics import METRICS, MIN_SIDE_PX
from pipelines.evaluation.models import Model
from pipelines.evaluation.pairs import EvalSize
from pipelines.masks.bins import BINS
from pipelines.records import UsageError
from pipelines.stream.geometry import HELD_OUT, RESIZES

Quantization = Literal["round", "truncate"]
ProtocolName = Literal["lacuna", "spn", "distill", "deepgin", "mhtma"]

_MAX_FILLS: Final = 100
_MAX_SIDE_PX: Final = 8192
_SETTINGS: Final = ("name", "strokes", "num_fills", "size", "procedure", "segmentation", "quantization")
"""Fields that change what a number means. Split and resize stand in the passport by themselves."""


@dataclass(frozen=True)
class EvalProtocol:
    """Meaning of the scores of a model; by default Lacuna's own protocol."""

    name: ProtocolName = "lacuna"
    split: str = "val"
    resize: str | None = None
    """How photos become squares, a name of RESIZES; if not given, chosen by `fit`."""
    size: EvalSize | None = None
    """Side of the square photos in px, or `own` for their own size; if not given, the size of their masks."""
    metrics: tuple[str, ...] = METRICS
    """Names of metrics, those of a pair and those of sets of pairs."""
    with_weights: tuple[tuple[str, ...], ...] = ()
    """Further metrics: of each tuple the first whose pretrained weights are at hand."""
    columns: tuple[str, ...] = ()
    """Ranges of hole ratios of the paper's table, such as `0.2-0.4`, each a union of bins."""
    by_family: bool = False
    """Whether the scores of each mask family are reported, too."""
    masks: str = ""
    """Masks of the paper, in words; nothing for any."""
    strokes: bool = False
    """Whether a sketch-guided network gets the photo's own edges in the hole, as a user might draw (MHTMA, IV-F)."""
    num_fills: int = 1
    """Number of fills of a pair; the one of the highest PSNR in the hole counts, for all metrics (SPN, Table 2)."""
    num_sampled: int = 1
    """Number of fills of a network that samples them, where the user gives none."""
    procedure: ProcedureName | None = None
    """Way in which the network fills photos of another size than its own; the model's own if not given."""
    segmentation: bool | None = None
    """Whether the network gets the dataset's segmentation maps; follows from the network, not a user's choice."""
    quantization: Quantization = "round"
    """How fills become whole levels."""

    def __post_init__(self) -> None:
        if self.resize is not None and self.resize not in RESIZES:
            raise UsageError(f"unknown resize {self.resize!r}: use one of {', '.join(RESIZES)}")
        if isinstance(self.size, int) and not MIN_SIDE_PX <= self.size <= _MAX_SIDE_PX:
            raise UsageError(f"size is {self.size}: give own, or {MIN_SIDE_PX} to {_MAX_SIDE_PX} px")
        if not 1 <= self.num_fills <= _MAX_FILLS:
            raise UsageError(f"num_fills is {self.num_fills}: it must be from 1 to {_MAX_FILLS}")

    def as_json(self) -> dict[str, Any]:
        """Fields for a passport, without those that are not given."""
        return {name: value for name in _SETTINGS if (value := getattr(self, name)) is not None}

    def fit(self, model: Model, dataset_name: str = "") -> Self:
        """The protocol with what follows from model and dataset: resize, maps, number of fills, procedure.

        Raises UsageError where the model does not support it.
        """
        name = model.identity["model"]
        old = ". If the version takes only photo and mask because it is old, register its checkpoint again"
        hint = old if name.startswith("models:/") and model.procedure is None else ""
        if self.strokes and "sketch" not in model.takes:
            raise UsageError(f"{name} takes no sketch: evaluate it without strokes{hint}")
        if self.num_fills > 1 and "noise" not in model.takes:
            raise UsageError(f"{name} always gives the same fill: evaluate it with one{hint}")
        sampled = self.num_sampled if self.num_fills == 1 and "noise" in model.takes else self.num_fills
        return replace(
            self,
            resize=self.resize or self._choose_resize(model, dataset_name),
            num_fills=sampled,
            segmentation=True if "segmentation" in model.takes else self.segmentation,
        )

    def _choose_resize(self, model: Model, dataset_name: str) -> str:
        """The papers' way for their protocols; else that of the model's training, upright."""
        if self.name != "lacuna":
            return "centre-square" if dataset_name == "celeba" else "squash"
        trained = str(model.trained.get("resize", "centre-square"))
        return HELD_OUT.get(trained, trained)

    def describe_differences(self, model: Model, is_same_size: bool) -> list[str]:
        """Differences between the fitted protocol and the training of the model, in words."""
        paper, trained = PROTOCOLS[self.name], model.trained
        notes = [
            f"{name} is {getattr(self, name)}; the protocol {self.name} has {getattr(paper, name)}"
            for name in ("size", "quantization")
            if getattr(self, name) != getattr(paper, name) and self.name != "lacuna"
        ]
        if not trained:
            return notes
        if (own := HELD_OUT.get(trained["resize"], trained["resize"])) != self.resize and self.size != "own":
            notes.append(f"photos are resized by {self.resize}; the recipe {trained['recipe']} learned from {own}")
        if not is_same_size:
            notes.append(
                f"pairs have another size than the network's {trained['size_px']} px: it fills them by its procedure "
                f"{self.procedure or model.procedure}"
            )
        family = find_paper_protocol(trained["recipe"])
        if self.name not in ("lacuna", family):
            notes.append(f"the protocol is that of {self.name}; the recipe {trained['recipe']} is one of {family}")
        return notes


def list_bins(column: str) -> tuple[str, ...]:
    """Names of the bins within a range of hole ratios such as `0.2-0.4`; raises UsageError where none fits."""
    low, _, high = column.partition("-")
    inside = [b for b in BINS if float(low) <= float(b.split("-")[0]) and float(b.split("-")[1]) <= float(high)]
    if not inside or (float(inside[0].split("-")[0]), float(inside[-1].split("-")[1])) != (float(low), float(high)):
        raise UsageError(f"column {column!r} is no union of the bins {', '.join(BINS)}")
    return tuple(inside)


_FID: Final = ("fid_inception", "fid_vgg16")
_LPIPS: Final = ("lpips_alex_image",)
_NVIDIA: Final = "NVIDIA's irregular test masks"

PROTOCOLS: Final[dict[str, EvalProtocol]] = {
    "lacuna": EvalProtocol(),
    "spn": EvalProtocol(
        "spn",
        size=256,
        metrics=(*METRICS, "ssim_uniform_image", "l1_gray_image"),
        with_weights=(_FID,),
        columns=("0-0.2", "0.2-0.4", "0.4-0.6"),
        masks=_NVIDIA,
        num_sampled=5,
        quantization="truncate",
    ),
    "distill": EvalProtocol(
        "distill", size=256, with_weights=(_FID, _LPIPS), columns=("0.1-0.2", "0.3-0.4", "0.4-0.5"), masks=_NVIDIA
    ),
    "deepgin": EvalProtocol(
        "deepgin",
        size="own",
        with_weights=(_FID, _LPIPS),
        by_family=True,
        masks="rectangles, strokes and automaton masks in equal parts",
        procedure="polyphase",
        quantization="truncate",
    ),
    "mhtma": EvalProtocol(
        "mhtma",
        size=256,
        with_weights=(_FID,),
        columns=("0-0.1", "0.1-0.2", "0.2-0.3", "0.3-0.4", "0.4-0.5"),
        masks="strokes, with a square or without",
    ),
}
"""Protocols of the papers' tables (SPN, Tables 1 and 2; distillation, Table 1; DeepGIN, Table 2; MHTMA, Table IV).

Choices of our own where a paper is silent: which LPIPS, the window of SSIM outside SPN, DeepGIN's L1 (its printed
numbers fit no definition that was tried), MHTMA's masks.
"""


def find_paper_protocol(recipe: str) -> str:
    """Name of the protocol of the paper that a recipe belongs to."""
    family = recipe.split("-", maxsplit=1)[0]
    return {"spl": "spn", "spn": "spn", "deepgin": "deepgin", "mhtma": "mhtma"}.get(family, "distill")
