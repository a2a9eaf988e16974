"""Tables of Zhang et al., Fully Context-Aware Image Inpainting with a Learned Semantic Pyramid, 2023."""

from typing import Final

from pipelines.evaluation.printed.tables import Meaning, Table

_MEANINGS: Final = {
    "ssim": Meaning("1", "ssim_uniform_image", remark="uniform window 11x11, pictures truncated to uint8"),
    "psnr": Meaning("dB", "psnr_image", remark="pictures truncated to uint8"),
    "mae": Meaning("0.1", "l1_gray_image", 10, "channels averaged first; printed 0.154 is 1.54 % of 255"),
    "fid": Meaning("1", "fid_inception", remark="the published Inception network, code of PIC"),
}
_ABLATION: Final = {"dataset": "paris-streetview", "masks": "irregular", "size": "256"}
_DETERMINISTIC: Final = Table(
    "spn",
    "1",
    _MEANINGS,
    {"dataset": ("places2", "celeba", "paris-streetview"), "bin": ("0.2-0.4", "0.4-0.6", "all")},
    ("metric", "system"),
    """
    ssim EC     0.847 0.695 0.832   0.922 0.815 0.905   0.880 0.740 0.849
    ssim MFE    0.816 0.652 0.804   0.916 0.807 0.900   0.872 0.707 0.834
    ssim RFR    0.856 0.704 0.839   0.931 0.838 0.917   0.893 0.763 0.863
    ssim RN     0.875 0.726 0.855   0.941 0.852 0.925   0.891 0.756 0.861
    ssim WF     0.855 0.647 0.820   -     -     -       0.895 0.765 0.864
    ssim CTSDG  0.848 0.696 0.837   0.923 0.819 0.907   0.888 0.746 0.855
    ssim SPL    0.894 0.759 0.875   0.950 0.869 0.935   0.911 0.790 0.882
    ssim SPN    0.897 0.763 0.877   0.952 0.871 0.937   0.916 0.795 0.886
    psnr EC     24.17 20.32 25.07   29.47 24.08 30.34   27.65 22.81 27.50
    psnr MFE    22.89 19.13 23.94   29.03 23.85 30.13   27.22 22.07 27.07
    psnr RFR    24.38 20.42 25.48   30.33 25.09 31.38   28.32 23.71 28.36
    psnr RN     25.44 21.08 26.37   31.17 25.51 32.17   28.44 23.53 28.37
    psnr WF     24.57 19.31 24.77   -     -     -       28.66 23.88 28.21
    psnr CTSDG  24.16 20.36 25.54   29.48 24.21 30.62   28.08 23.39 28.11
    psnr SPL    26.47 22.05 27.55   32.17 26.43 33.23   29.34 24.47 29.38
    psnr SPN    26.65 22.18 27.72   32.39 26.54 33.52   29.76 24.67 29.69
    mae  EC     0.221 0.456 0.248   0.111 0.274 0.140   0.148 0.364 0.204
    mae  MFE    0.266 0.542 0.296   0.119 0.284 0.145   0.159 0.412 0.226
    mae  RFR    0.212 0.445 0.240   0.099 0.237 0.121   0.134 0.324 0.182
    mae  RN     0.187 0.412 0.218   0.091 0.229 0.115   0.136 0.337 0.187
    mae  WF     0.216 0.583 0.285   -     -     -       0.132 0.330 0.185
    mae  CTSDG  0.220 0.452 0.237   0.109 0.267 0.135   0.138 0.338 0.189
    mae  SPL    0.164 0.363 0.191   0.080 0.203 0.102   0.115 0.292 0.161
    mae  SPN    0.158 0.351 0.185   0.077 0.200 0.099   0.109 0.282 0.154
    fid  EC     9.63  23.04 6.08    10.41 14.40 7.24    43.45 87.70  44.95
    fid  MFE    21.07 48.74 15.38   11.12 15.42 7.95    47.22 100.85 50.33
    fid  RFR    8.43  21.82 5.27    10.22 14.57 7.15    37.51 77.15  39.44
    fid  RN     9.27  25.00 6.10    11.39 18.00 8.16    64.78 134.00 66.54
    fid  WF     7.75  42.46 9.37    -     -     -       33.20 73.31  38.36
    fid  CTSDG  15.88 42.19 12.36   11.32 17.57 8.14    46.52 98.76  49.19
    fid  SPL    8.30  23.98 5.56    10.27 12.94 6.88    41.41 93.41  46.13
    fid  SPN    7.68  20.73 4.73    10.16 12.38 6.77    34.00 70.76  36.82
    """,
    {"masks": "irregular", "size": "256"},
)
_PROBABILISTIC: Final = Table(
    "spn",
    "2",
    {name: Meaning(m.unit, m.ours, m.factor, f"{m.remark}; best PSNR of 5 fills") for name, m in _MEANINGS.items()},
    {"dataset": ("celebahq", "paris-streetview"), "bin": ("0-0.2", "0.2-0.4", "0.4-0.6", "all")},
    ("metric", "system"),
    """
    ssim PIC  0.962 0.875 0.742 0.860   0.944 0.844 0.660 0.802
    ssim DSI  0.964 0.880 0.758 0.868   -     -     -     -
    ssim SPN  0.971 0.894 0.777 0.881   0.966 0.896 0.763 0.865
    psnr PIC  33.80 26.56 22.13 27.49   31.96 26.16 21.28 25.93
    psnr DSI  34.42 26.92 22.75 28.03   -     -     -     -
    psnr SPN  35.72 27.68 23.32 28.90   35.03 28.71 23.66 28.56
    mae  PIC  0.046 0.161 0.359 0.187   0.067 0.185 0.473 0.261
    mae  DSI  0.044 0.155 0.329 0.175   -     -     -     -
    mae  SPN  0.038 0.140 0.305 0.160   0.045 0.127 0.323 0.179
    fid  PIC  8.82  16.44 27.82 8.71    40.42 72.43 120.10 68.00
    fid  DSI  7.15  12.98 21.34 6.30    -     -     -      -
    fid  SPN  3.22  8.99  16.54 4.08    34.07 45.66 78.86  46.97
    """,
    {"masks": "irregular", "size": "256"},
)
_METRICS: Final = {"metric": ("ssim", "psnr", "mae", "fid")}
_PRIORS: Final = Table(
    "spn",
    "3",
    _MEANINGS,
    _METRICS,
    ("system",),
    """
    SPN,_prior_64               0.882 29.38 0.161 46.13
    SPN,_priors_64,_128         0.884 29.45 0.158 41.04
    SPN,_priors_64,_128,_256    0.886 29.69 0.154 36.82
    """,
    _ABLATION,
)
_BLOCKS: Final = Table(
    "spn",
    "4",
    {**_MEANINGS, "parameters": Meaning("10^6", None, remark="no score; the paper truncates")},
    {"metric": ("parameters", "ssim", "psnr", "mae", "fid")},
    ("system",),
    """
    SPN,_4_blocks     38  0.881 29.40 0.162 41.00
    SPN,_8_blocks     50  0.886 29.69 0.154 36.82
    SPN,_12_blocks    62  0.886 29.61 0.155 42.50
    """,
    _ABLATION,
)
_TARGETS: Final = Table(
    "spn",
    "5",
    _MEANINGS,
    _METRICS,
    ("system",),
    """
    SPL,_target_ASL              0.886 29.38 0.154 46.13
    SPL,_target_prior_of_SPN     0.881 29.21 0.163 42.30
    """,
    _ABLATION,
    {
        ("SPL, target ASL", "ssim"): "a misprint: that of SPN; Tables 1 and 3 have 0.882 for SPL",
        ("SPL, target ASL", "mae"): "a misprint: that of SPN; Tables 1 and 3 have 0.161 for SPL",
    },
)
_COSTS: Final = Table(
    "spn",
    "6",
    {
        "parameters": Meaning("10^6", None, remark="no score; the paper truncates"),
        "time": Meaning("s", None, remark="no score; one picture on an RTX 3090"),
    },
    {"system": ("EC", "MFE", "RFR", "RN", "WF", "CTSDG", "SPL", "SPN")},
    ("metric",),
    """
    parameters  21   130  30   11   49   52   45   50
    time        0.03 0.05 0.02 0.04 0.06 0.05 0.04 0.05
    """,
    {"dataset": "any", "masks": "any", "size": "256"},
)
TABLES: Final = (_DETERMINISTIC, _PROBABILISTIC, _PRIORS, _BLOCKS, _TARGETS, _COSTS)
