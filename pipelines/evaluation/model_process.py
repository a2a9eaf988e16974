"""A registered version in a process of its own, which imports the version's own `nets` and none of ours.

Two versions in one process would share the code of the first. Here each one gets a fresh interpreter, with pickle
disallowed, and pictures go there and back through pipes as .npz, a length before each. The code runs from a fresh copy
of the files that were registered, compared with their digests.

Run as `python -m pipelines.evaluation.model_process FOLDER CONFIG`, CONFIG as JSON.
"""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from infra.settings import apply_defaults
from pipelines.records import JobError

if TYPE_CHECKING:
    from torch import Tensor

    from infra.tracking import Tracking, Version

_LENGTH_BYTES = 8
NO_PLANES: "Final[Mapping[str, Tensor]]" = MappingProxyType({})
NO_CONFIG: Final[Mapping[str, str]] = MappingProxyType({})


class ModelProcess:
    """The process of one model; it ends with this object or with this process."""

    def __init__(
        self,
        uri: str,
        files: Path,
        config: Mapping[str, str] = NO_CONFIG,
        scratch: "TemporaryDirectory[str] | None" = None,
    ) -> None:
        """Starts the model in `files`, called `uri` in messages; the process removes that folder at its end.

        `config`: `procedure` and `device`, where they are not its own and the CPU. `scratch` is the folder around it,
        if it is nobody else's.
        """
        self._uri, self._scratch = uri, scratch
        command = [sys.executable, "-m", "pipelines.evaluation.model_process", str(files), json.dumps(dict(config))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.metadata: dict[str, Any] = json.loads(self._receive())

    @classmethod
    def from_version(
        cls, version: "Version", tracking: "Tracking", config: Mapping[str, str] = NO_CONFIG
    ) -> "ModelProcess":
        """The process of a version; raises CorruptDataError where its files are not those that were registered."""
        from pipelines.versions import fetch_version

        scratch = TemporaryDirectory(prefix="lacuna-version-")
        return cls(version.uri, fetch_version(version, tracking, Path(scratch.name)), config, scratch)

    def fill(
        self,
        images: NDArray[np.uint8],
        masks: NDArray[np.uint8],
        beside: "Mapping[str, Tensor]" = NO_PLANES,
        noise: NDArray[np.uint64] | None = None,
    ) -> NDArray[np.uint8]:
        """Inpainted uint8 NHWC, as any `Filler` makes them; raises JobError with the model's own words."""
        assert self._process.stdin is not None
        given = {"image": images, "mask": masks, **{name: _levels(name, plane) for name, plane in beside.items()}}
        try:
            send(self._process.stdin, _pack(**given, **({} if noise is None else {"noise": noise})))
        except BrokenPipeError:
            raise JobError(f"the process of {self._uri} has ended: see its words above") from None
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
            raise JobError(f"{self._uri} cannot be loaded in a process of its own: see its words above")
        if data.startswith(b"error "):
            raise JobError(f"{self._uri}: {data[6:].decode()}")
        return data


def send(stream: IO[bytes], data: bytes) -> None:
    """One message."""
    stream.write(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes | None:
    """The next message, None at the end of the stream."""
    head = stream.read(_LENGTH_BYTES)
    return stream.read(int.from_bytes(head, "big")) if len(head) == _LENGTH_BYTES else None


def _levels(name: str, plane: "Tensor") -> NDArray[np.uint8]:
    """A plane float NCHW as a registered version takes it: a sketch NHW in {0, 1}, a map NHWC of levels."""
    if name == "sketch":
        return np.ascontiguousarray(plane[:, 0].numpy(), np.uint8)
    return np.ascontiguousarray((plane * 255).round().permute(0, 2, 3, 1).numpy(), np.uint8)


def _pack(**arrays: NDArray[np.unsignedinteger]) -> bytes:
    sink = io.BytesIO()
    np.savez(sink, allow_pickle=False, **arrays)
    return sink.getvalue()


def _unpack(data: bytes) -> dict[str, NDArray[np.uint8]]:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def main(folder: str, config: str) -> None:
    """Loads the model, tells what it is, then answers until its input ends; removes the folder, whoever was killed."""
    apply_defaults()
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not look like a reply
    try:
        model = _load(Path(folder), json.loads(config))
        send(replies, json.dumps(model.metadata.metadata).encode())
        while (request := receive(sys.stdin.buffer)) is not None:
            send(replies, _pack(fill=np.asarray(model.predict(_unpack(request)), np.uint8)))
    except Exception as fault:  # noqa: BLE001 - the model's own code may raise anything; its words go to the other side
        send(replies, f"error {type(fault).__name__}: {fault}".encode())
        sys.exit(1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _load(folder: Path, config: Mapping[str, str]) -> Any:
    import torch

    from infra.tracking import load_model

    torch.set_num_threads(1)
    return load_model(folder, config)


if __name__ == "__main__":
    main(*sys.argv[1:])
