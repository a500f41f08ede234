"""Many runs, on several cores, with their outcomes in the order of the seeds.

Each run is a process-wide affair (it owns its virtual time and nothing else), so runs share nothing and a pool of
processes is enough. At most a few seeds a worker are handed out ahead, so that an interrupt ends soon.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor

from quorate.sim.run import Outcome, SimOptions, run

SEEDS_AHEAD_PER_JOB = 3


def run_batch(seeds: Iterable[int], options: SimOptions, jobs: int) -> Iterator[Outcome]:
    """The outcome of each seed, in order. `jobs` 1 runs them in this process."""
    assert jobs >= 1
    if jobs == 1:
        for seed in seeds:
            yield run(seed, options)
        return
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))
    try:
        ahead: deque[Future[Outcome]] = deque()
        for seed in seeds:
            ahead.append(pool.submit(run, seed, options))
            if len(ahead) >= jobs * SEEDS_AHEAD_PER_JOB:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def replay_command(seed: int, options: SimOptions) -> str:
    """The command line that runs exactly this again, with a transcript."""
    defaults = SimOptions()
    words = [f"quorate sim --seed {seed} --trace"]
    for name in ("nodes", "seconds", "clients", "keys", "durability", "cold_keys"):
        value = getattr(options, name)
        if value != getattr(defaults, name):
            option = name.replace("_", "-")
            words.append(f"--{option} {value:g}" if isinstance(value, float) else f"--{option} {value}")
    if options.faults != defaults.faults:
        words.append(f"--faults '{','.join(options.faults) or 'none'}'")
    return " ".join(words)
