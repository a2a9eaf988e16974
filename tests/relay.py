"""A TCP relay on loopback that keeps all bytes that pass, and that can be cut and joined again."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


class Relay:
    """Connections to `address` go on to the target; `cut` breaks all of them and takes no more until `join`."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (str(parts.hostname), int(parts.port or 80))
        self._lock, self._living, self._streams = threading.Lock(), set[socket.socket](), list[bytearray]()
        self._port = 0
        self.join()
        self.address = f"http://127.0.0.1:{self._port}"

    def join(self) -> None:
        """Take connections."""
        self._listener = socket.create_server(("127.0.0.1", self._port), backlog=64)
        self._port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Break all connections in the middle and refuse new ones."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.break_off()

    def break_off(self) -> None:
        """Break all connections in the middle; new ones are taken."""
        with self._lock:
            for each in self._living:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def streams(self) -> list[bytes]:
        """What passed on each connection, one entry a direction."""
        with self._lock:
            return [bytes(stream) for stream in self._streams]

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            there, back = bytearray(), bytearray()
            with self._lock:
                self._living |= {client, server}
                self._streams += [there, back]
            threading.Thread(target=self._pump, args=(client, server, there), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, back), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                with self._lock:
                    kept.extend(data)
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextmanager
def relay(target: str) -> Iterator[Relay]:
    """A relay to an http address for the time of the block."""
    made = Relay(target)
    try:
        yield made
    finally:
        made.cut()
