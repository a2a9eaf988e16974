"""A registered version in a process of its own, which imports the version's own `nets` and none of ours.

Two versions in one process would share the code of the first. Here each one gets a fresh interpreter, with pickle
disallowed, and pictures go there and back through pipes as .npz, a length before each.

Run as `python -m pipelines.evaluation.apart TRACKING_URI MODEL_URI`.
"""

import io
import json
import os
import subprocess
import sys
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from infra.settings import apply_defaults, tracking_uri
from pipelines.records import Failed

_LENGTH_BYTES = 8


class ModelProcess:
    """The process of one model; it ends with this object or with this process."""

    def __init__(self, at: str, model_uri: str) -> None:
        self._uri = model_uri
        command = [sys.executable, "-m", "pipelines.evaluation.apart", model_uri]
        environment = os.environ | {"MLFLOW_TRACKING_URI": at}  # all can see a command, and it may hold a key
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self.metadata: dict[str, str] = json.loads(self._receive())

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


def main(model_uri: str) -> None:
    """Loads the model, tells what it is, then answers until its input ends."""
    apply_defaults()
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not look like a reply
    try:
        model = _loaded(model_uri)
        send(replies, json.dumps(model.metadata.metadata).encode())
        while (request := receive(sys.stdin.buffer)) is not None:
            send(replies, _pack(fill=np.asarray(model.predict(_unpack(request)), np.uint8)))
    except Exception as fault:  # noqa: BLE001 - the model's own code may raise anything; its words go to the other side
        send(replies, f"error {type(fault).__name__}: {fault}".encode())
        sys.exit(1)


def _loaded(model_uri: str) -> Any:
    import torch

    from infra.tracking import Tracking

    torch.set_num_threads(1)
    return Tracking(tracking_uri()).load(model_uri)


if __name__ == "__main__":
    main(sys.argv[1])
