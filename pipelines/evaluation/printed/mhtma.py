"""Tables of Zhou et al., Learning to Scale Temperature in Masked Self-Attention for Image Inpainting, 2023.

Table III (CelebA-HQ, five methods) is missing in the text at hand.
"""

from typing import Final

from pipelines.evaluation.printed.tables import Meaning, Table

_MEANINGS: Final = {
    "mae": Meaning("%", "l1_image", remark="of 255, over R, G and B as far as the text says"),
    "psnr": Meaning("dB", "psnr_image"),
    "ssim": Meaning("1", None, remark="not comparable: its window is not stated"),
    "fid": Meaning("1", "fid_inception", remark="2,000 or 36,500 pictures: the text says both"),
}
_COLUMNS: Final = {"metric": ("mae", "psnr", "ssim", "fid")}
_FIXED: Final = {"masks": "brush and square", "size": "256"}
_ATTENTION: Final = Table(
    "mhtma",
    "I",
    {n: Meaning(m.unit, m.ours, m.factor, "its dataset is not stated; " + m.remark) for n, m in _MEANINGS.items()},
    _COLUMNS,
    ("system",),
    """
    MHTMA            1.282 28.82 0.9167 5.147
    MHTMA,_with_ATMA  1.372 28.44 0.9108 5.799
    MHTMA,_with_CA    1.309 28.71 0.9132 5.425
    """,
    {"dataset": "unknown", **_FIXED},
)
_LOSSES: Final = Table(
    "mhtma",
    "II",
    _MEANINGS,
    _COLUMNS,
    ("system",),
    """
    MHTMA,_WGAN-GP  1.603 26.39 0.8981 5.559
    MHTMA,_HAL-SN   1.571 26.67 0.9008 5.392
    """,
    {"dataset": "celebahq", **_FIXED},
)
_COMPARISON: Final = Table(
    "mhtma",
    "IV",
    _MEANINGS,
    {"system": ("ParConv", "DeepFillv2", "WaveFill", "ATMA", "MHTMA")},
    ("metric", "bin"),
    """
    mae  0-0.1    0.7780 0.7986 0.8616 0.6096 0.5820
    mae  0.1-0.2  1.474  1.557  1.472  1.277  1.217
    mae  0.2-0.3  2.381  2.500  2.295  2.118  2.007
    mae  0.3-0.4  3.276  3.395  3.090  2.917  2.763
    mae  0.4-0.5  4.044  4.185  3.806  3.612  3.415
    psnr 0-0.1    29.82  29.81  29.21  30.76  31.16
    psnr 0.1-0.2  26.23  25.72  26.47  26.83  27.14
    psnr 0.2-0.3  23.73  23.19  24.23  24.30  24.66
    psnr 0.3-0.4  22.19  21.53  22.77  22.66  23.03
    psnr 0.4-0.5  21.18  20.53  21.88  21.63  22.01
    ssim 0-0.1    0.9535 0.9591 0.9532 0.9633 0.9647
    ssim 0.1-0.2  0.9101 0.9179 0.9158 0.9248 0.9282
    ssim 0.2-0.3  0.8563 0.8682 0.8688 0.8783 0.8838
    ssim 0.3-0.4  0.8023 0.8204 0.8222 0.8327 0.8408
    ssim 0.4-0.5  0.7520 0.7740 0.7766 0.7892 0.7999
    fid  0-0.1    19.70  14.65  18.25  14.14  13.47
    fid  0.1-0.2  31.13  27.56  26.51  26.12  24.57
    fid  0.2-0.3  49.17  42.49  41.60  41.06  39.41
    fid  0.3-0.4  64.27  56.35  54.48  54.66  52.65
    fid  0.4-0.5  80.68  71.17  69.25  68.68  67.25
    """,
    {"dataset": "places2", **_FIXED, "masks": "not stated"},
)
TABLES: Final = (_ATTENTION, _LOSSES, _COMPARISON)
