"""A load that several processes carry: one Python process cannot ask for as much as a cluster of some nodes answers.

Each process has its share of the workers or of the rate, connections of its own, and keys of its own to insert. A step
is given to all at once, over pipes, and the next one only when all have answered; so every phase begins in all of them
at the same moment, and what they recorded can be added up: histograms bucket by bucket, windows by their place.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from types import TracebackType
from typing import Final, Protocol

import msgspec

from quorate.bench.checked import Verdict
from quorate.bench.job import Job
from quorate.bench.report import PhaseResult, merged
from quorate.bench.worker import ERRORS, LINE_BYTES_MAX, Answer, Step
from quorate.core.errors import QuorateError

PROCESSES_MAX: Final = 64
LEAVE_S: Final = 5.0
"""A process that was told to end has so long."""
COMMAND: Final = (sys.executable, "-m", "quorate.bench.worker")


class Carrier(Protocol):
    """What carries a load: a `Runner` in this process, or a `Crew`."""

    stopped: bool

    async def load(self) -> PhaseResult | None: ...

    async def warm_up(self, phase: str) -> None: ...

    async def measure(self, phase: str) -> PhaseResult: ...

    def stop(self) -> None: ...

    @property
    def done(self) -> int: ...


class ProcessLost(QuorateError):
    """One of the load's processes ended by itself."""


class Crew:
    """Enter it to start `processes` of them, leave it to end them."""

    def __init__(self, job: Job, processes: int, command: tuple[str, ...] = COMMAND) -> None:
        assert 1 <= processes <= PROCESSES_MAX
        self._jobs = [
            msgspec.structs.replace(job, load=job.load.share(number, processes)) for number in range(processes)
        ]
        self._command = command
        self._members: list[_Member] = []
        self.stopped = False

    async def __aenter__(self) -> Crew:
        try:
            for job in self._jobs:
                self._members.append(await _Member.start(self._command, job))
            await self._answers()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def load(self) -> PhaseResult | None:
        results = [answer.result for answer in await self._all(Step("load")) if answer.result is not None]
        return merged(results) if results else None

    async def warm_up(self, phase: str) -> None:
        await self._all(Step("warm_up", phase))

    async def measure(self, phase: str) -> PhaseResult:
        results = [answer.result for answer in await self._all(Step("measure", phase))]
        return merged([result for result in results if result is not None])

    async def verify(self) -> Verdict:
        verdicts = [answer.verdict for answer in await self._all(Step("verify"))]
        found = [verdict for verdict in verdicts if verdict is not None]
        return Verdict(
            sum(verdict.keys for verdict in found),
            sum(verdict.lost for verdict in found),
            sum(verdict.unread for verdict in found),
        )

    @property
    def done(self) -> int:
        return sum(member.done for member in self._members)

    def stop(self) -> None:
        """End the phase that is under way, and begin no other."""
        self.stopped = True
        for member in self._members:
            member.tell(Step("stop"))

    async def _all(self, step: Step) -> list[Answer]:
        """The step, begun by all of them, and what each answered; raises the first error."""
        for member in self._members:
            member.tell(step)
        return await self._answers()

    async def _answers(self) -> list[Answer]:
        """One of each; raises the first error as soon as it is there."""
        try:
            async with asyncio.TaskGroup() as group:
                answers = [group.create_task(member.answer()) for member in self._members]
        except* QuorateError as errors:
            error = errors.exceptions[0]
        else:
            return [answer.result() for answer in answers]
        raise error

    async def _end(self) -> None:
        await asyncio.gather(*(member.end() for member in self._members))


class _Member:
    """One process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.done = 0

    @classmethod
    async def start(cls, command: tuple[str, ...], job: Job) -> _Member:
        # A session of its own, so that Ctrl-C reaches this process alone, which then asks them to stop.
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, limit=LINE_BYTES_MAX, start_new_session=True
        )
        member = cls(process)
        member._write(msgspec.json.encode(job))
        return member

    def tell(self, step: Step) -> None:
        if step.do != "stop":
            self.done = 0
        self._write(msgspec.json.encode(step))

    async def answer(self) -> Answer:
        """To the last step; raises the error that it ended with."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            answer = msgspec.json.decode(line, type=Answer)
            if answer.kind:
                raise ERRORS[answer.kind](answer.error)
            if answer.done < 0:
                return answer
            self.done = answer.done
        code = await self._process.wait()
        raise ProcessLost(f"a process of the load ended with code {code}; what it said stands above")

    async def end(self) -> None:
        """Let it end; kill it if it does not."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.close()
        try:
            async with asyncio.timeout(LEAVE_S):
                # What it still says must not fill the pipe that it waits for.
                await stdout.read()
                await self._process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        # A process that is gone is found out where its answer is missing.
        with suppress(ConnectionError, RuntimeError):
            self._process.stdin.write(line + b"\n")
