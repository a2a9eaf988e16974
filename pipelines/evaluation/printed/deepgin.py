"""Tables of Li et al., DeepGIN: Deep Generative Inpainting Network for Extreme Image Inpainting, ECCVW 2020."""

from typing import Final

from pipelines.evaluation.printed.tables import Meaning, Table

_MEANINGS: Final = {
    "psnr": Meaning("dB", "psnr_image"),
    "ssim": Meaning("1", None, remark="not comparable: its window is not stated"),
    "l1": Meaning("%", None, remark="not comparable: above the RMSE that its PSNR allows, so no mean over the picture"),
    "fid": Meaning("1", "fid_inception", remark="implementation not stated"),
    "lpips": Meaning("1", None, remark="not comparable: its network is not stated"),
    "parameters": Meaning("10^6", None, remark="no score"),
}
_SCORES: Final = ("psnr", "ssim", "l1", "fid", "lpips")
_MIXED: Final = "three types"
_VARIANTS: Final = Table(
    "deepgin",
    "1",
    _MEANINGS,
    {"metric": ("parameters", *_SCORES)},
    ("system",),
    """
    StdResBlk_(coarse_only)  8.168   31.55 -     -      23.824  0.182
    StdResBlk                40.850  31.34 0.923 4.710  19.436  0.191
    StdResBlk-SA             41.376  31.60 0.925 4.510  18.239  0.180
    StdResBlk-MSSA           42.892  32.66 0.933 4.067  12.843  0.148
    DilatedResBlk-MSSA       42.892  32.71 0.933 4.034  12.548  0.149
    SPDResBlk-MSSA           42.892  32.88 0.935 3.884  12.335  0.143
    SPDResBlk-MSSA-BP        42.930  33.26 0.939 3.666  11.424  0.132
    """,
    {"dataset": "celebahq", "masks": _MIXED, "size": "256"},
)
"""Two cells of its first row are lost in the text at hand."""
_COMPARISON: Final = Table(
    "deepgin",
    "2",
    _MEANINGS,
    {"metric": _SCORES},
    ("dataset", "masks", "system", "size"),
    """
    ffhq             rectangles   DeepFillv1 own  20.22 0.872 16.523 97.630 0.173
    ffhq             rectangles   DeepFillv2 own  20.95 0.903 14.607 92.070 0.170
    ffhq             rectangles   DeepGIN    own  26.05 0.923 7.183  20.849 0.137
    ffhq             rectangles   DeepFillv1 256  21.55 0.836 13.631 26.276 0.144
    ffhq             rectangles   DeepFillv2 256  22.52 0.845 12.029 19.336 0.128
    ffhq             rectangles   DeepGIN    256  24.36 0.867 9.797  37.577 0.142
    oxford-buildings rectangles   DeepFillv1 own  19.20 0.767 20.322 67.193 0.187
    oxford-buildings rectangles   DeepFillv2 own  18.58 0.766 21.204 77.636 0.192
    oxford-buildings rectangles   DeepGIN    own  21.92 0.861 12.067 63.744 0.170
    oxford-buildings rectangles   DeepFillv1 256  19.49 0.795 16.851 58.588 0.169
    oxford-buildings rectangles   DeepFillv2 256  18.88 0.789 18.308 66.615 0.174
    oxford-buildings rectangles   DeepGIN    256  21.90 0.819 12.995 74.866 0.185
    ffhq             three_types  DeepFillv1 own  25.12 0.839 11.363 64.534 0.232
    ffhq             three_types  DeepFillv2 own  29.70 0.912 7.994  36.940 0.188
    ffhq             three_types  DeepGIN    own  32.36 0.929 4.071  14.327 0.156
    ffhq             three_types  DeepFillv1 256  22.87 0.683 16.812 80.952 0.310
    ffhq             three_types  DeepFillv2 256  22.75 0.716 17.472 75.555 0.293
    ffhq             three_types  DeepGIN    256  24.71 0.760 13.417 64.542 0.274
    oxford-buildings three_types  DeepFillv1 own  21.48 0.741 23.460 61.958 0.237
    oxford-buildings three_types  DeepFillv2 own  24.68 0.802 19.195 38.315 0.179
    oxford-buildings three_types  DeepGIN    own  27.57 0.871 7.268  38.016 0.191
    oxford-buildings three_types  DeepFillv1 256  21.64 0.686 18.835 81.009 0.284
    oxford-buildings three_types  DeepFillv2 256  20.80 0.702 20.687 82.671 0.266
    oxford-buildings three_types  DeepGIN    256  23.60 0.744 14.659 79.927 0.265
    """,
)
TABLES: Final = (_VARIANTS, _COMPARISON)
