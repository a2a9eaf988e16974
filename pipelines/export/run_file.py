"""Run an exported file on pictures, in a process that cannot import anything of Lacuna.

Run as `python -I run_file.py FORMAT FILE PICTURES FILLS`: PICTURES is an .npz with `image_<i>` N3HW in [0, 1] and
`mask_<i>` N1HW in {0, 1}, float32; FILLS becomes one with `filled_<i>` N3HW.
"""

import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Run = Callable[[Array, Array], Array]


def load_torchscript(path: str) -> Run:
    """Function that fills by the file, loaded as other programs do."""
    import torch

    torch.set_num_threads(1)
    module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]

    def run(image: Array, mask: Array) -> Array:
        with torch.inference_mode():
            filled: Array = module(torch.from_numpy(image), torch.from_numpy(mask)).numpy()
        return filled

    return run


def load_onnx(path: str) -> Run:
    """Function that fills by the file, in onnxruntime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(image: Array, mask: Array) -> Array:
        filled: Array = session.run(["filled"], {"image": image, "mask": mask})[0]
        return filled

    return run


def main(form: str, path: str, pictures: str, fills: str) -> None:
    """Fill all pictures and write the fills."""
    run = {"torchscript": load_torchscript, "onnx": load_onnx}[form](path)
    with np.load(pictures, allow_pickle=False) as arrays:
        count = len(arrays.files) // 2
        filled = {f"filled_{i}": run(arrays[f"image_{i}"], arrays[f"mask_{i}"]) for i in range(count)}
    with open(fills, "wb") as sink:  # noqa: PTH123 - nothing but numpy and the runtime is imported here
        np.savez(sink, allow_pickle=False, **filled)


if __name__ == "__main__":
    for package in ("nets", "pipelines", "jobs", "infra"):
        sys.modules[package] = None  # type: ignore[assignment] # importing it raises ImportError from here on
    main(*sys.argv[1:])
