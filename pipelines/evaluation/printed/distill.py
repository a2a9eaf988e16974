"""Tables of Suin et al., Distillation-guided Image Inpainting, ICCV 2021.

The label of the last dataset of Table 1 is shifted by a line in the text at hand: rows are in the order of the page.
"""

from typing import Final

from pipelines.evaluation.printed.tables import Meaning, Table

_MEANINGS: Final = {
    "psnr": Meaning("dB", "psnr_image", remark="number of test pictures not stated"),
    "ssim": Meaning("1", None, remark="not comparable: its window is not stated"),
    "l1": Meaning("1", "l1_image", 100, "a share of 1; averaging over channels is not stated"),
    "fid": Meaning("1", "fid_inception", remark="number of test pictures not stated"),
    "lpips": Meaning("1", None, remark="not comparable: network and hole ratios are not stated"),
}
_COLUMNS: Final = {"metric": ("psnr", "ssim", "l1", "fid"), "bin": ("0.1-0.2", "0.3-0.4", "0.4-0.5")}
_FIXED: Final = {"masks": "irregular", "size": "256"}
_COMPARISON: Final = Table(
    "distill",
    "1",
    _MEANINGS,
    _COLUMNS,
    ("dataset", "system"),
    """
    places2 PIC  26.78 21.72 19.04  0.930 0.781 0.622  0.0133 0.0357 0.0590  28.44 49.14 66.54
    places2 PC   26.88 22.12 20.10  0.934 0.784 0.690  0.0128 0.0325 0.0480  25.46 45.21 61.28
    places2 GC   26.81 22.04 20.12  0.929 0.813 0.694  0.0129 0.0339 0.0468  26.12 45.84 61.74
    places2 SF   28.28 23.31 21.24  0.949 0.823 0.765  0.0143 0.0307 0.0412  13.53 32.24 43.11
    places2 EC   27.19 22.18 20.24  0.933 0.820 0.712  0.0128 0.0324 0.0452  18.69 40.43 52.92
    places2 DGI  29.15 24.21 22.35  0.954 0.841 0.788  0.0103 0.0272 0.0364  10.45 29.14 38.28
    celeba PIC     30.71 24.68 21.37  0.965 0.880 0.740  0.0094 0.0254 0.0439  12.42 17.14 23.28
    celeba PC      32.73 26.71 24.30  0.972 0.918 0.856  0.0062 0.0179 0.0272  7.44  14.44 16.25
    celeba GC      32.59 26.68 24.31  0.973 0.914 0.859  0.0063 0.0180 0.0270  8.14  15.02 17.18
    celeba SF      33.25 27.24 24.94  0.979 0.936 0.881  0.0089 0.0188 0.0259  4.96  9.54  11.90
    celeba EC      32.48 26.66 24.38  0.975 0.915 0.871  0.0064 0.0181 0.0262  5.08  10.45 13.56
    celeba RFR     33.52 27.54 25.46  0.979 0.929 0.890  0.0056 0.0168 0.0227  4.17  9.13  11.67
    celeba DGI     34.14 28.49 25.97  0.981 0.943 0.902  0.0051 0.0144 0.0201  4.04  7.54  9.96
    paris-streetview PIC  28.86 24.91 23.67  0.930 0.819 0.753  0.0132 0.0319 0.0432  29.74 50.18 69.28
    paris-streetview PC   30.38 25.32 23.87  0.936 0.836 0.761  0.0103 0.0256 0.0373  23.41 45.15 66.13
    paris-streetview GC   30.88 25.58 23.81  0.943 0.839 0.772  0.0085 0.0223 0.0379  28.44 45.02 65.26
    paris-streetview SF   31.53 26.38 24.62  0.956 0.861 0.791  0.0106 0.0224 0.0299  17.82 34.44 46.36
    paris-streetview EC   30.78 25.57 23.92  0.940 0.839 0.778  0.0086 0.0223 0.0308  23.44 46.93 66.84
    paris-streetview EQ   32.61 26.55 24.44  0.959 0.872 0.800  0.0074 0.0184 0.0278  19.38 44.52 59.40
    paris-streetview RFR  31.75 26.33 24.61  0.954 0.861 0.802  0.0076 0.0204 0.0282  19.46 38.19 48.71
    paris-streetview DGI  33.05 27.27 25.72  0.959 0.875 0.812  0.0071 0.0165 0.0236  15.44 31.04 41.28
    """,
    _FIXED,
)
_LPIPS: Final = Table(
    "distill",
    "1",
    _MEANINGS,
    {"metric": ("lpips",)},
    ("dataset", "system"),
    """
    places2 DGI         0.1612
    celeba DGI            0.0742
    paris-streetview DGI  0.1614
    """,
    _FIXED,
)
_PLACES: Final = {"dataset": "places2", "bin": "0.3-0.4", **_FIXED}
_PARTS: Final = Table(
    "distill",
    "2",
    _MEANINGS,
    {"system": ("DGI, baseline", *(f"DGI, Net{number}" for number in range(1, 9)))},
    ("metric",),
    "psnr 22.36 22.84 22.79 22.98 23.54 22.54 23.62 24.08 24.21",
    _PLACES,
)
_OTHERS: Final = Table(
    "distill",
    "3",
    _MEANINGS,
    {"system": ("GC", "GC*", "GC†", "EC", "EC*", "EC#", "SF", "SF*", "SF#")},
    ("metric",),
    """
    psnr 22.04 22.74 22.41  22.18 22.62 22.06  23.31 23.70 23.19
    ssim 0.813 0.831 0.824  0.820 0.832 0.818  0.823 0.833 0.807
    """,
    _PLACES,
)
TABLES: Final = (_COMPARISON, _LPIPS, _PARTS, _OTHERS)
