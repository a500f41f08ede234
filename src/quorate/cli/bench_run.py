"""A run of `quorate bench`, from the checked options to the last line."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec

from quorate.bench.checked import Verdict
from quorate.bench.crew import Carrier, Crew
from quorate.bench.job import Job
from quorate.bench.report import PhaseResult
from quorate.bench.results import NotApplicable, Results, begin_results, phase_of, write_results
from quorate.bench.ycsb import LOAD, not_applicable
from quorate.cli.bench_text import say, shown_progress, watched
from quorate.cli.bench_wanted import Wanted
from quorate.cli.cluster_access import ClusterAccess
from quorate.cli.exit_codes import ERROR, OK
from quorate.core.buckets import BucketProperties


async def run(wanted: Wanted) -> int:
    """All phases; gives the exit code. Raises the `QuorateError` that ends the run."""
    job = wanted.job
    async with ClusterAccess(job.seeds, job.password, job.timeout_ms) as access:
        bucket = access.bucket(job.bucket)
        properties = await _declared(bucket, wanted) if job.kind == "ycsb" or wanted.output is not None else {}
        job = msgspec.structs.replace(job, blind=properties.get("conflicts") == "lww", tell_progress=watched())
        results = begin_results(wanted.options, properties)
        async with _carrier(job, wanted.processes, bucket) as carrier:
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, carrier.stop)
            try:
                await _phases(carrier, wanted, results)
                code = await _checked(carrier, wanted, results)
            finally:
                if wanted.output is not None and (results.phases or results.not_applicable):
                    write_results(wanted.output, results)
    return code


async def _declared(bucket: Any, wanted: Wanted) -> dict[str, Any]:
    """The bucket's properties, with the way to settle conflicts that was asked for."""
    properties: dict[str, Any] = await bucket.properties()
    if wanted.conflicts is not None and properties["conflicts"] != wanted.conflicts:
        properties = await bucket.set(conflicts=wanted.conflicts)
    return {name: value for name, value in properties.items() if name in BucketProperties.__struct_fields__}


def _carrier(job: Job, processes: int, bucket: Any) -> AbstractAsyncContextManager[Carrier]:
    if processes == 1:
        return _here(job, bucket)
    return Crew(job, processes)


@asynccontextmanager
async def _here(job: Job, bucket: Any) -> AsyncIterator[Carrier]:
    yield job.runner(bucket)


async def _phases(carrier: Carrier, wanted: Wanted, results: Results) -> None:
    load = wanted.job.load
    reasons = {name: not_applicable(name) for name in wanted.workloads if wanted.job.kind == "ycsb"}
    if LOAD in wanted.phases and not all(reasons.get(name) for name in wanted.workloads):
        async with shown_progress(carrier, LOAD, operations=load.keys):
            recorded = await carrier.load()
        if recorded is not None:
            _report(recorded, wanted, results)
    for name in wanted.workloads if "run" in wanted.phases else ():
        if carrier.stopped:
            break
        if reasons.get(name):
            results.not_applicable.append(NotApplicable(name, reasons[name]))
            say(results.not_applicable[-1], wanted.as_json)
            continue
        if load.warm_up_seconds:
            async with shown_progress(carrier, f"{name}: warm-up", load.warm_up_seconds):
                await carrier.warm_up(name)
        async with shown_progress(carrier, name, load.seconds):
            recorded = await carrier.measure(name)
        _report(recorded, wanted, results)


def _report(recorded: PhaseResult, wanted: Wanted, results: Results) -> None:
    phase = phase_of(recorded)
    results.phases.append(phase)
    for window in phase.windows if wanted.show_windows else ():
        say(window, wanted.as_json)
    say(phase.report, wanted.as_json)


async def _checked(carrier: Any, wanted: Wanted, results: Results) -> int:
    """The last look at every key, if the load is a checked one; gives the exit code."""
    if wanted.job.kind != "checked":
        return OK
    verdict: Verdict = await carrier.verify()
    say(verdict, wanted.as_json)
    stale = sum(phase.report.errors.get("StaleRead", 0) for phase in results.phases)
    return ERROR if stale or verdict.lost or verdict.unread else OK
