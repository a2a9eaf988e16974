"""A trial of a stored model in a process of its own: `python -m pipelines.registry.trial TRACKING_URI MODEL_URI FOLDER`.

The folder holds trial.npz with image, mask and the fill that the checkpoint gave; the process loads the model with
pickle disallowed and fails unless it gives the very same fill. Run by `pipelines.registry.package`.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infra.settings import apply_defaults
from pipelines.records import Failed

TRIAL_FILE: Final = "trial.npz"


def try_in_fresh_process(tracking_uri: str, model_uri: str, folder: Path, **arrays: NDArray[np.uint8]) -> None:
    """Raises Failed with the process's last words unless the model gives `fill` for `image` and `mask`."""
    np.savez(folder / TRIAL_FILE, **arrays)  # type: ignore[arg-type]
    command = [sys.executable, "-m", "pipelines.registry.trial", tracking_uri, model_uri, str(folder)]
    trial = subprocess.run(command, capture_output=True, text=True)
    if trial.returncode:
        raise Failed(f"{model_uri} does not load and fill in a fresh process: {trial.stderr.strip()[-600:]}")


def main(tracking_uri: str, model_uri: str, folder: str) -> None:
    """Loads, fills, compares."""
    apply_defaults()
    from infra.tracking import Tracking

    with np.load(Path(folder) / TRIAL_FILE, allow_pickle=False) as trial:
        image, mask, expected = (trial[name] for name in ("image", "mask", "fill"))
    fill = Tracking(tracking_uri).load(model_uri).predict({"image": image, "mask": mask})
    if fill.dtype != np.uint8 or not np.array_equal(fill, expected):
        sys.exit(f"the model's fill is not the checkpoint's: {np.count_nonzero(fill != expected)} values differ")


if __name__ == "__main__":
    main(*sys.argv[1:])
