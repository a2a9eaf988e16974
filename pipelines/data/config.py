"""Dataset config: the settings that decide the bytes of a dataset."""

from dataclasses import asdict, dataclass
from typing import Any, Final

SPLITS: Final = ("train", "val", "test", "rest")
"""`rest` holds the photos that a way to split does not use."""


@dataclass(frozen=True)
class DatasetConfig:
    """Settings of a build: with the files and the seed, they decide all bytes of the shards."""

    source: str
    """Layout of the photos: folder, packages (photos of our dependencies), or of a published dataset: ade20k-aim,
    celeba, celebahq, ffhq, oxford-buildings, paris-streetview, places2-128, places365-easy, -large or -small."""
    splits: str | None = None
    """One of the source's ways to split it; the published one if not given."""
    planes: tuple[str, ...] = ()
    """Pictures beside the photos that are stored with them, where they exist: `seg`, `edge`."""
    duplicates: str = "bytes"
    """Two files are one photo if they have the same `bytes`, or the same upright RGB `pixels`; that decodes all."""
    resize: str = "none"
    """How photos get one size: squash, centre-square, short-side, celeba-178; none keeps a file's bytes if it can."""
    size_px: int | None = None
    """Size for --resize, px; not given with none."""
    encode: str = "png"
    """Encoder of photos whose bytes are not kept: png or jpeg."""
    scaled_decode: bool = False
    """Decode a JPEG that is reduced at a fraction of its size: faster, with slightly different pixels."""
    decode_check: bool = True
    """Decode photos whose bytes are kept, too, to find damaged pixels now; --no-decode-check leaves that out."""
    holdout: float = 0.0
    """Share of the train photos that goes to the split val, by a digest of their key."""
    min_side_px: int = 32
    """Smaller photos are rejected."""
    max_pixels: int = 100_000_000
    """Larger photos are rejected before they are decoded."""
    masks: tuple[str, ...] = ("rectangle", "brush", "automaton")
    """Mask families of which each photo of `mask_splits` carries specs; empty stores none."""
    mask_splits: tuple[str, ...] = ("val", "test")
    """Splits whose photos carry masks. Training draws its own, and `rest` is not scored."""
    masks_per_family: int = 1
    """Number of masks of each family and bin."""
    mask_bins: tuple[str, ...] = ("any",)
    """Hole-ratio bins of these masks at their final size, such as 0.1-0.2; `any` takes every mask."""
    mask_scaled: bool = False
    """Draw strokes longer and thicker on a canvas larger than 256, instead of in the paper's pixels."""
    mask_size_px: int = 256
    """Height and width of these masks, the network's input size."""
    mask_canvas_px: int = 256
    """Height and width at which they are drawn before they are reduced."""
    mask_pixels: bool = False
    """Store each mask as a picture, too: `mask.png`, `mask2.png` ..., 1 bit, white = hole."""
    mask_files_sha256: str | None = None
    """Digest of the names of the mask files, for families made of files; the command computes it."""
    shard_bytes: int = 64 << 20
    """Approximate size of a shard; the number of shards is a power of two."""
    masks_as_photos: bool = False
    """Accept pictures that look like masks of photos; by default they are counted and left out."""
    max_reject_share: float = 0.1
    """More rejected photos than this share, and more than ten, stop the build; masks and system files do not count."""

    def as_json(self) -> dict[str, Any]:
        """Fields as JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @staticmethod
    def from_json(fields: dict[str, Any]) -> "DatasetConfig":
        """Config with the fields of `as_json`; a field that is younger than the record has its default."""
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
        return DatasetConfig(**{"decode_check": False, **values})  # records without the field had no check
