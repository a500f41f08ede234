"""One of several processes that carry a load together: `python -m quorate.bench.worker`, started by `crew`.

It speaks in lines of JSON: the first that it reads is its `Job`, each further one a `Step`, and for each of these it
writes one `Answer`. While a step runs it reads on, for the next line may be a request to stop; and, if it was asked to,
it writes how far it has come. When its input ends, whoever started it is gone, and so it ends too: nobody is left to
read what it measures.

Rejected: `multiprocessing`. Its children import the program that started them once more, and its queues are threads
that compete with what is measured.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, BinaryIO, Final, Literal

import msgspec
import uvloop

from quorate._process import turn_stdout_to_nowhere
from quorate.bench.checked import CheckedBench, Verdict
from quorate.bench.job import Job
from quorate.bench.report import PhaseResult
from quorate.bench.runner import Runner
from quorate.client.asynchronous import connect
from quorate.core.errors import CallerError, OutcomeUnknown, QuorateError, Unavailable

PROGRESS_INTERVAL_S: Final = 0.25
LINE_BYTES_MAX: Final = 256 * 1024 * 1024
"""Of one line in either direction; an hour's windows of a second take some sixteen MB."""
ERRORS: Final[dict[str, type[QuorateError]]] = {
    error.__name__: error for error in (CallerError, Unavailable, OutcomeUnknown, QuorateError)
}
"""What a failure is on the other side of the pipe; the first that fits."""


class Step(msgspec.Struct):
    """What to do next; `stop` concerns the step that runs and has no answer."""

    do: Literal["load", "warm_up", "measure", "verify", "stop"]
    phase: str = ""


class Answer(msgspec.Struct, omit_defaults=True):
    """What came of a step, or, with `done`, how far it is."""

    done: int = -1
    result: PhaseResult | None = None
    verdict: Verdict | None = None
    error: str = ""
    kind: str = ""
    """Of the error: a key of `ERRORS`."""


class Worker:
    """Carries out the steps that it reads."""

    def __init__(self, runner: Runner, source: asyncio.StreamReader, sink: BinaryIO) -> None:
        self._runner = runner
        self._source = source
        self._sink = sink
        self._steps: asyncio.Queue[Step | None] = asyncio.Queue(maxsize=4)

    async def work(self, tell_progress: bool) -> None:
        """Until there is nothing more to read."""
        self.tell(Answer())
        reading = asyncio.create_task(self._read())
        telling = asyncio.create_task(self._tell_progress()) if tell_progress else None
        try:
            while (step := await self._steps.get()) is not None:
                self.tell(await self._answer(step))
        finally:
            reading.cancel()
            if telling is not None:
                telling.cancel()

    def tell(self, answer: Answer) -> None:
        self._sink.write(msgspec.json.encode(answer) + b"\n")
        self._sink.flush()

    async def _read(self) -> None:
        while line := await self._source.readline():
            step = msgspec.json.decode(line, type=Step)
            if step.do == "stop":
                self._runner.stop()
            else:
                await self._steps.put(step)
        self._runner.stop()
        await self._steps.put(None)

    async def _tell_progress(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_INTERVAL_S)
            self.tell(Answer(done=self._runner.done))

    async def _answer(self, step: Step) -> Answer:
        runner = self._runner
        try:
            if step.do == "load":
                return Answer(result=await runner.load())
            if step.do == "measure":
                return Answer(result=await runner.measure(step.phase))
            if step.do == "warm_up":
                await runner.warm_up(step.phase)
                return Answer()
            assert isinstance(runner, CheckedBench), "only a checked load has something to verify"
            return Answer(verdict=await runner.verify())
        except QuorateError as error:
            return failure(error)


def failure(error: QuorateError) -> Answer:
    return Answer(error=str(error), kind=next(name for name, kind in ERRORS.items() if isinstance(error, kind)))


async def main(sink: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    source = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(source), sys.stdin)
    job = msgspec.json.decode(await source.readline(), type=Job)
    try:
        async with connect(job.seeds, job.password, job.timeout_ms) as client:
            bucket: Any = client.bucket(job.bucket)
            await Worker(job.runner(bucket), source, sink).work(job.tell_progress)
    except QuorateError as error:
        sink.write(msgspec.json.encode(failure(error)) + b"\n")
        sink.flush()


if __name__ == "__main__":
    try:
        uvloop.run(main(sys.stdout.buffer))
        sys.stdout.flush()
    except BrokenPipeError:
        turn_stdout_to_nowhere()  # Whoever started this process is gone.
