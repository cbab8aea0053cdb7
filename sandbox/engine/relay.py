"""Carries TCP connections from a listening socket to an address, many of them in one thread."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

CHUNK = 256 * 1024
CONNECT_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 10.0

T = TypeVar("T")
Peer = tuple[str, int]


class Loop:
    """An event loop in its own thread, for all relays of the process."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="sandbox-relays", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and wait for its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_TIMEOUT_S)

    def close(self) -> None:
        """End the loop; its connections are cut."""
        if self._loop.is_closed():
            return

        async def cancel_all() -> None:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

        self.call(cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Relay:
    """A listening socket whose connections are carried to `target`.

    `admit` is asked for each connection with the peer's address; `mark` is set on the sockets
    towards the target, for the packet filter to know them by.
    """

    def __init__(
        self,
        loop: Loop,
        listening: socket.socket,
        target: Peer,
        *,
        admit: Callable[[str], bool] = lambda _: True,
        mark: int = 0,
    ) -> None:
        self._loop = loop
        self._target = target
        self._admit = admit
        self._mark = mark
        self._connections: set[asyncio.StreamWriter] = set()
        self._cut = False
        self._server = loop.call(asyncio.start_server(self._serve, sock=listening, limit=CHUNK))

    def close(self, *, cut: bool) -> None:
        """Stop listening; `cut` ends the connections that are open too."""

        async def work() -> None:
            self._server.close()

        self._loop.call(work())
        if cut:
            self._cut = True  # for those on their way in
            self.cut()

    def cut(self) -> None:
        """End the connections that are open."""

        async def work() -> None:
            for writer in list(self._connections):
                writer.transport.abort()

        self._loop.call(work())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far: asyncio.StreamWriter | None = None
        self._connections.add(writer)
        try:
            if not self._admit(writer.get_extra_info("peername")[0]):
                return
            far_reader, far = await self._connect()
            self._connections.add(far)
            if self._cut:
                raise ConnectionAbortedError
            await asyncio.gather(_pump(reader, far), _pump(far_reader, writer))
        except (OSError, TimeoutError, asyncio.CancelledError):
            # To the client it is what it would be on the wire: a reset, no orderly end.
            _reset(writer)
        finally:
            for side in (writer, far):
                if side is not None:
                    side.close()
                    self._connections.discard(side)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        outgoing = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        outgoing.setblocking(False)
        try:
            if self._mark:
                outgoing.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self._mark)
            loop = asyncio.get_running_loop()
            await asyncio.wait_for(loop.sock_connect(outgoing, self._target), CONNECT_TIMEOUT_S)
        except BaseException:
            outgoing.close()
            raise
        return await asyncio.open_connection(sock=outgoing, limit=CHUNK)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction to its end, and end the other side's input with it."""
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):  # the other side has gone as well
        writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()
