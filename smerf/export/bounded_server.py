"""A threaded HTTP server with a bound on the number of its connections and on the time that each may take."""

from __future__ import annotations

import io
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["BoundedServer", "TimedReader", "set_deadline"]

MAX_CONNECTIONS = 64
_Request = socket.socket | tuple[bytes, socket.socket]


class BoundedServer(ThreadingHTTPServer):
    """A thread a connection, of which there are at most ``MAX_CONNECTIONS``: the one idle for longest makes room."""

    allow_reuse_address = False
    request_queue_size = 128
    is_stopping = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._lock = threading.Lock()
        self._idle: dict[socket.socket, None] = {}
        super().__init__(address, handler)

    def set_idle(self, connection: socket.socket, is_idle: bool) -> None:
        """Note whether a connection is waiting for a request."""
        with self._lock:
            self._idle.pop(connection, None)
            if is_idle:
                self._idle[connection] = None

    def process_request(self, request: _Request, client_address: Any) -> None:
        while not self._free.acquire(timeout=0.05):
            if self.is_stopping:
                self.shutdown_request(request)
                return
            self._drop_idle()
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: _Request, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay quiet: a client that misbehaves is no news to the one who serves."""

    def _drop_idle(self) -> None:
        with self._lock:
            if self._idle:
                connection = next(iter(self._idle))
                del self._idle[connection]
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass


class TimedReader(io.RawIOBase):
    """What a client sends, until ``deadline`` (of ``time.monotonic``)."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.deadline = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        set_deadline(self._connection, self.deadline)
        return self._connection.recv_into(buffer)


def set_deadline(connection: socket.socket, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    connection.settimeout(left)
