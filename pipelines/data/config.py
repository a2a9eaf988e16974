"""What decides the bytes of a dataset: the recipe of a build."""

from dataclasses import asdict, dataclass
from typing import Any, Final

SPLITS: Final = ("train", "val", "test", "rest")
"""`rest` is what a way to split leaves over."""


@dataclass(frozen=True)
class DatasetConfig:
    """Together with the files and the seed, all that the bytes of the shards depend on."""

    source: str
    """The dataset's layout, a name of DATASETS."""
    splits: str | None = None
    """Which of the source's ways to split it is; None is the published one."""
    planes: tuple[str, ...] = ()
    """Pictures beside the photos that are stored with them where they are there: `seg`, `edge`."""
    duplicates: str = "bytes"
    """What makes two files one photo: the same `bytes`, or the same upright RGB `pixels`, which costs decoding all."""
    resize: str = "none"
    """How photos come to one size, a name of RESIZES; "none" keeps the bytes of the file where it can."""
    size_px: int | None = None
    """The size that they come to; None goes with "none" alone."""
    encode: str = "png"
    """How a photo is stored whose bytes are not kept, a name of ENCODERS."""
    scaled_decode: bool = False
    """Decode a JPEG that is to be reduced at a fraction of its size already: faster, slightly other pixels."""
    decode_check: bool = True
    """Decode also the photos whose bytes are kept, so that damage of their pixels is found here, not by a training."""
    holdout: float = 0.0
    """Share of the train photos that goes to the split val, by a digest of their key."""
    min_side_px: int = 32
    """Smaller photos are rejected."""
    max_pixels: int = 100_000_000
    """Larger photos are rejected before they are decoded."""
    masks: tuple[str, ...] = ("rectangle", "brush", "automaton")
    """Mask families of which each photo of some splits carries recipes; empty stores none."""
    mask_splits: tuple[str, ...] = ("val", "test")
    """Those splits. Training draws masks itself, and `rest` nobody scores: they carry none unless they are named."""
    masks_per_family: int = 1
    """How many recipes of each family and bin."""
    mask_bins: tuple[str, ...] = ("any",)
    """Hole-ratio bins that these masks are to lie in at their final size, such as 0.1-0.2; `any` does not choose."""
    mask_scaled: bool = False
    """Draw strokes longer and thicker on a canvas larger than 256, instead of in the paper's pixels."""
    mask_size_px: int = 256
    """Height and width of what the network sees: the size of those masks."""
    mask_canvas_px: int = 256
    """The size at which they are drawn before they are reduced."""
    mask_pixels: bool = False
    """Store each of those masks drawn, too: `mask.png`, `mask2.png` ..., 1 bit, white = hole."""
    mask_files_sha256: str | None = None
    """Digest of the names of the mask files, for families made of files; the command finds it out itself."""
    shard_bytes: int = 64 << 20
    """Shards are made about as large as this; their number is a power of two."""
    masks_as_photos: bool = False
    """Take pictures that look like masks of photos for photos: by default they are counted and left out."""
    max_reject_share: float = 0.1
    """More rejected photos than this share, and more than ten, stop the build; masks and system files do not count."""

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @staticmethod
    def from_json(fields: dict[str, Any]) -> "DatasetConfig":
        """The recipe with the fields of `as_json`; one that was written before a field existed has the default."""
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
        return DatasetConfig(**{"decode_check": False, **values})  # there was no check before the field
