"""Process of a registered version, which imports the version's own `nets` and none of this installation.

Two versions in one process would share the code of the first. So each one gets a fresh interpreter, and its code runs
from a fresh copy of the registered files, compared with their digests.

The protocol is our own because `multiprocessing` unpickles what comes back: nothing that a version's foreign code sends
is unpickled. A reply is a kind, a length that is bounded before more is read, and then JSON, a message, or the bytes of
uint8 pictures of the shape that was asked for.

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
_DONE, _ERROR = b"+", b"-"
"""Kinds of replies."""
_MAX_TEXT_BYTES = 1 << 20
"""Size of the longest JSON or message that a model may send."""
_SECONDS_TO_END = 10.0
_FACTS: Final = {"weights_sha256": str, "takes": list, "procedure": dict}
"""Metadata of a version that is read here, with the types."""
NO_PLANES: "Final[Mapping[str, Tensor]]" = MappingProxyType({})
NO_CONFIG: Final[Mapping[str, str]] = MappingProxyType({})


class ModelProcess:
    """Process of one model; it ends with this object or with this process."""

    def __init__(
        self,
        uri: str,
        files: Path,
        config: Mapping[str, str] = NO_CONFIG,
        scratch: "TemporaryDirectory[str] | None" = None,
    ) -> None:
        """Start the model in `files`, called `uri` in messages; the process removes that folder at its end.

        `config`: `procedure` and `device`, if not the model's own and the CPU. `scratch` is the folder around it, which
        is removed on close.
        """
        self._uri, self._scratch = uri, scratch
        command = [sys.executable, "-m", "pipelines.evaluation.model_process", str(files), json.dumps(dict(config))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.metadata = self._read_metadata()

    @classmethod
    def from_version(
        cls, version: "Version", tracking: "Tracking", config: Mapping[str, str] = NO_CONFIG
    ) -> "ModelProcess":
        """Process of a version; raises CorruptDataError where its files are not those that were registered."""
        from pipelines.versions import fetch_version

        scratch = TemporaryDirectory(prefix="lacuna-version-")
        return cls(version.uri, fetch_version(version, tracking, Path(scratch.name)), config, scratch)

    def fill(
        self,
        images: NDArray[np.uint8],
        masks: NDArray[np.uint8],
        guides: "Mapping[str, Tensor]" = NO_PLANES,
        noise: NDArray[np.uint64] | None = None,
    ) -> NDArray[np.uint8]:
        """Inpainted uint8 NHWC, as of any `Filler`; raises JobError, with the model's own message if it has one."""
        assert self._process.stdin is not None
        arrays = {"image": images, "mask": masks, **{name: _to_levels(name, plane) for name, plane in guides.items()}}
        try:
            send(self._process.stdin, _pack(**arrays, **({} if noise is None else {"noise": noise})))
        except BrokenPipeError:
            raise JobError(f"the process of {self._uri} has ended: see its output above") from None
        data = self._receive(images.nbytes)
        if len(data) != images.nbytes:
            raise self._refuse(f"{len(data)} bytes, {images.nbytes} are those of the pictures {images.shape}")
        return np.frombuffer(bytearray(data), np.uint8).reshape(images.shape)

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._scratch is not None:
            self._scratch.cleanup()

    def __del__(self) -> None:
        self.close()

    def _read_metadata(self) -> dict[str, Any]:
        """Facts of the model, of known types."""
        try:
            found = json.loads(self._receive(_MAX_TEXT_BYTES))
            kinds = [found.get(name, kind()) for name, kind in _FACTS.items()]
        except (ValueError, AttributeError, RecursionError):
            raise self._refuse("metadata that is no JSON object") from None
        wrong = [name for (name, kind), value in zip(_FACTS.items(), kinds, strict=True) if type(value) is not kind]
        if wrong:
            raise self._refuse(f"metadata with {wrong[0]} of another type")
        return dict(found)

    def _receive(self, most_bytes: int) -> bytes:
        """The next reply, of at most so many bytes; raises JobError for others, and with the message of the model."""
        assert self._process.stdout is not None
        head = self._process.stdout.read(1 + _LENGTH_BYTES)
        if not head:
            raise JobError(f"the process of {self._uri} has ended: see its output above")
        kind, length = head[:1], int.from_bytes(head[1:], "big")
        if kind not in (_DONE, _ERROR) or length > (most_bytes if kind == _DONE else _MAX_TEXT_BYTES):
            raise self._refuse(f"the head {head.hex()}")
        data = self._process.stdout.read(length)
        if kind == _ERROR:
            raise JobError(f"{self._uri}: {data.decode(errors='replace')}")
        return data

    def _refuse(self, found: str) -> JobError:
        """End the process, and return the error of a reply that breaks the protocol."""
        self._process.kill()
        return JobError(f"{self._uri} has sent {found}: its code is damaged or hostile; register the checkpoint again")


def send(stream: IO[bytes], data: bytes, kind: bytes = b"") -> None:
    """Write one message."""
    stream.write(kind + len(data).to_bytes(_LENGTH_BYTES, "big") + data)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes | None:
    """Read the next request, None at the end of the stream."""
    head = stream.read(_LENGTH_BYTES)
    return stream.read(int.from_bytes(head, "big")) if len(head) == _LENGTH_BYTES else None


def _to_levels(name: str, plane: "Tensor") -> NDArray[np.uint8]:
    """Plane float NCHW -> uint8 for a registered version: a sketch NHW in {0, 1}, a map NHWC of levels."""
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
    """Load the model, send its metadata, then answer until the input ends; remove the folder in any case."""
    apply_defaults()
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library's output must not look like a reply
    try:
        model = _load(Path(folder), json.loads(config))
        send(replies, json.dumps(model.metadata.metadata).encode(), _DONE)
        while (request := receive(sys.stdin.buffer)) is not None:
            send(replies, np.asarray(model.predict(_unpack(request)), np.uint8).tobytes(), _DONE)
    except Exception as fault:  # noqa: BLE001 - the model's own code may raise anything; the message goes to the other side
        send(replies, f"{type(fault).__name__}: {fault}".encode()[:_MAX_TEXT_BYTES], _ERROR)
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
