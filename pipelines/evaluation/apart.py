"""A registered version in a process of its own, which imports the version's own `nets` and none of ours.

Two versions in one process would share the code of the first. Here each one gets a fresh interpreter, with pickle
disallowed, and pictures go there and back through pipes as .npz, a length before each. The code runs from a fresh copy
of the files that were registered, compared with their digests.

Run as `python -m pipelines.evaluation.apart FOLDER`.
"""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from infra.settings import apply_defaults
from pipelines.records import Failed

if TYPE_CHECKING:
    from infra.tracking import Tracking, Version

_LENGTH_BYTES = 8


class ModelProcess:
    """The process of one model; it ends with this object or with this process."""

    def __init__(self, uri: str, files: Path, scratch: "TemporaryDirectory[str] | None" = None) -> None:
        """Starts the model in `files`, called `uri` in messages; the process removes that folder at its end.

        `scratch` is the folder around it, if it is nobody else's.
        """
        self._uri, self._scratch = uri, scratch
        command = [sys.executable, "-m", "pipelines.evaluation.apart", str(files)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.metadata: dict[str, str] = json.loads(self._receive())

    @classmethod
    def of_version(cls, version: "Version", tracking: "Tracking") -> "ModelProcess":
        """The process of a version; raises Damaged where its files are not those that were registered."""
        from pipelines.versions import fetch_version

        scratch = TemporaryDirectory(prefix="lacuna-version-")
        return cls(version.uri, fetch_version(version, tracking, Path(scratch.name)), scratch)

    def fill(self, images: NDArray[np.uint8], masks: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 NHWC and NHW in {0, 1} -> inpainted uint8 NHWC; raises Failed with the model's own words."""
        assert self._process.stdin is not None
        try:
            send(self._process.stdin, _pack(image=images, mask=masks))
        except BrokenPipeError:
            raise Failed(f"the process of {self._uri} has ended: see its words above") from None
        return _unpack(self._receive())["fill"]

    def close(self) -> None:
        """Ends the process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait()
        if self._scratch is not None:
            self._scratch.cleanup()

    def __del__(self) -> None:
        self.close()

    def _receive(self) -> bytes:
        assert self._process.stdout is not None
        data = receive(self._process.stdout)
        if data is None:
            raise Failed(f"{self._uri} cannot be loaded in a process of its own: see its words above")
        if data.startswith(b"error "):
            raise Failed(f"{self._uri}: {data[6:].decode()}")
        return data


def send(stream: IO[bytes], data: bytes) -> None:
    """One message."""
    stream.write(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes | None:
    """The next message, None at the end of the stream."""
    head = stream.read(_LENGTH_BYTES)
    return stream.read(int.from_bytes(head, "big")) if len(head) == _LENGTH_BYTES else None


def _pack(**arrays: NDArray[np.uint8]) -> bytes:
    sink = io.BytesIO()
    np.savez(sink, allow_pickle=False, **arrays)
    return sink.getvalue()


def _unpack(data: bytes) -> dict[str, NDArray[np.uint8]]:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def main(folder: str) -> None:
    """Loads the model, tells what it is, then answers until its input ends; removes the folder, whoever was killed."""
    apply_defaults()
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not look like a reply
    try:
        model = _load(Path(folder))
        send(replies, json.dumps(model.metadata.metadata).encode())
        while (request := receive(sys.stdin.buffer)) is not None:
            send(replies, _pack(fill=np.asarray(model.predict(_unpack(request)), np.uint8)))
    except Exception as fault:  # noqa: BLE001 - the model's own code may raise anything; its words go to the other side
        send(replies, f"error {type(fault).__name__}: {fault}".encode())
        sys.exit(1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _load(folder: Path) -> Any:
    import torch

    from infra.tracking import load_model

    torch.set_num_threads(1)
    return load_model(folder)


if __name__ == "__main__":
    main(sys.argv[1])
