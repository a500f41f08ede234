"""One client's connection: commands in, replies out in their order, nothing without a bound.

Everything that one connection may hold is counted: commands that wait for their replies, values on their way in plus
replies on their way out, and what the client has not read yet. Past any of these bounds it stops reading from the
socket, so that TCP holds the client back; it never drops a command. It parses no further than the bounds allow either:
the rest of what has arrived stays as bytes.

The connection has no timer. The server looks at all connections now and then (`overdue`).

Rejected: a task that reads, awaits each command and writes. It costs several times the whole command, and one slow
command would hold up those behind it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, cast

from quorate.api.resp import replies
from quorate.api.resp.commands.command import Command
from quorate.api.resp.parser import ProtocolError, RequestParser
from quorate.api.resp.slots import Slot
from quorate.core import limits
from quorate.core.errors import CallerError

if TYPE_CHECKING:
    from quorate.api.resp.server import RespServer


class RespConnection:
    """The protocol object of one client: has what `asyncio.Protocol` asks for, and is none by name, since an extension
    class cannot inherit from one (`quorate._compiled`)."""

    def __init__(self, server: RespServer, number: int, commands: dict[bytes, Command]) -> None:
        self.server = server
        self.store = server.store
        self.number = number
        """Redis's client id."""
        self.commands = commands
        """What this client may call now: a few before it has authenticated, then all."""
        self.authenticated = False
        self.resp3 = False
        self.name = b""
        self.address = ""
        self.pending: deque[Slot] = deque()
        """Slots of commands whose replies have not left, oldest first."""
        self.held_bytes = 0
        self.flush_due = False
        self.connected_ms = self.received_ms = server.now_ms
        self._parser = RequestParser()
        self._transport: asyncio.Transport | None = None
        self._closing = False
        self._reading_paused = False
        self._partial_since_ms: float | None = None
        self._partial_bytes = 0
        self._writing_paused_since_ms: float | None = None

    # From the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # No isinstance check: uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.address = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else ""
        if self.server.admit(self):
            return
        self._transport.write(replies.error("ERR", "max number of clients reached"))
        self._close_now()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._closing = True
        self.pending.clear()
        self.server.forget(self)

    def data_received(self, data: bytes) -> None:
        self.received_ms = self.server.now_ms
        self._partial_bytes += len(data)
        self._parser.feed(data)
        self._process()

    def eof_received(self) -> bool:
        """The client sends no more, but may still read: it gets the replies that it has asked for."""
        self.close_after_replies()
        return True

    def pause_writing(self) -> None:
        self._writing_paused_since_ms = self.server.now_ms

    def resume_writing(self) -> None:
        self._writing_paused_since_ms = None
        self._go_on()

    # For the commands.

    def slot(self) -> Slot:
        """The place of the reply to the command that is being read; to be filled exactly once, now or later."""
        slot = Slot(self, self.resp3)
        self.pending.append(slot)
        return slot

    def reply(self, body: bytes) -> None:
        """Answer the command that is being read."""
        slot = Slot(self, self.resp3)
        self.pending.append(slot)
        slot.fill(body)

    def set_authenticated(self, authenticated: bool) -> None:
        """Open the server to this client, or (RESET) close it again."""
        self.authenticated = authenticated
        self.commands = self.server.commands_for(authenticated)
        parser = self._parser
        parser.bytes_max = limits.COMMAND_BYTES_MAX if authenticated else limits.UNAUTHENTICATED_BYTES_MAX
        output_bytes = limits.CLIENT_OUTPUT_BYTES_HIGH if authenticated else limits.UNAUTHENTICATED_BYTES_MAX
        if self._transport is not None:
            self._transport.set_write_buffer_limits(output_bytes, min(output_bytes, limits.CLIENT_OUTPUT_BYTES_LOW))

    def close_after_replies(self) -> None:
        """Read no more, and close once every command so far has been answered."""
        self._closing = True
        self._pause_reading()
        if not self.pending:
            self._close_now()

    # For the server.

    def flush(self) -> None:
        """Write, in one piece, all replies that are complete up to the first that is not."""
        self.flush_due = False
        pending = self.pending
        bodies = []
        while pending:
            body = pending[0].body
            if body is None:
                break
            bodies.append(body)
            pending.popleft()
        transport = self._transport
        if transport is None:
            return
        if bodies:
            joined = bodies[0] if len(bodies) == 1 else b"".join(bodies)
            self.held_bytes -= len(joined)
            transport.write(joined)
        if self._reading_paused:
            self._go_on()

    def overdue(self, now_ms: float) -> bool:
        """Has this client used up one of its time limits? (Monotonic milliseconds.)"""
        timeouts = self.server.timeouts
        if self._writing_paused_since_ms is not None:
            return now_ms - self._writing_paused_since_ms > timeouts.command_ms
        if not self.authenticated and now_ms - self.connected_ms > timeouts.authentication_ms:
            return True
        if self.pending:
            return False
        if self._partial_since_ms is not None and now_ms - self._partial_since_ms > timeouts.command_ms:
            if self._partial_bytes < limits.COMMAND_PROGRESS_BYTES_MIN:
                return True
            self._partial_since_ms = now_ms
            self._partial_bytes = 0
        patience_ms = timeouts.command_ms if self._closing else timeouts.idle_ms
        return now_ms - self.received_ms > patience_ms

    def abort(self) -> None:
        """Close at once; what has not left is lost."""
        if self._transport is not None:
            self._transport.abort()

    def idle_ms(self) -> float:
        return self.server.now_ms - self.received_ms

    # Inside.

    def _process(self) -> None:
        """Run the commands that have arrived, as far as the bounds allow."""
        pending = self.pending
        next_command = self._parser.next
        commands_run = 0
        try:
            while (
                len(pending) < limits.PIPELINE_COMMANDS_MAX
                and self.held_bytes < limits.CLIENT_HELD_BYTES_MAX
                and self._writing_paused_since_ms is None
                and not self._closing
            ):
                arguments = next_command()
                if arguments is None:
                    self._note_partial(commands_run)
                    return
                commands_run += 1
                self._run(arguments)
        except ProtocolError as error:
            self.reply(replies.caller_error(error))
            self.close_after_replies()
        self._pause_reading()

    def _run(self, arguments: list[bytes]) -> None:
        name = arguments[0]
        commands = self.commands
        command = commands.get(name) or commands.get(name.upper())
        if command is None:
            self.server.refuse(self, name)
        elif not command.arguments_min <= len(arguments) <= command.arguments_max:
            self.reply(replies.error("ERR", f"wrong number of arguments for '{command.name}' command"))
        else:
            try:
                command.handler(self, arguments)
            except CallerError as error:
                self.reply(replies.caller_error(error))

    def _note_partial(self, commands_run: int) -> None:
        """Start the clock of a command that has arrived in part, and stop it once the command is whole."""
        if not self._parser.in_command:
            self._partial_since_ms = None
        elif commands_run or self._partial_since_ms is None:
            self._partial_since_ms = self.server.now_ms
            self._partial_bytes = 0

    def _go_on(self) -> None:
        """Read again, and first run what has arrived already, once half of the bound is free."""
        if (
            self._closing
            or self._writing_paused_since_ms is not None
            or len(self.pending) > limits.PIPELINE_COMMANDS_MAX // 2
            or self.held_bytes > limits.CLIENT_HELD_BYTES_MAX // 2
        ):
            if self._closing and not self.pending:
                self._close_now()
            return
        if self._reading_paused:
            self._reading_paused = False
            if self._transport is not None:
                self._transport.resume_reading()
            self._process()

    def _pause_reading(self) -> None:
        if not self._reading_paused and self._transport is not None:
            self._reading_paused = True
            self._partial_since_ms = None
            self._transport.pause_reading()

    def _close_now(self) -> None:
        self._closing = True
        if self._transport is not None:
            self._transport.close()
