"""A run as a command line: what a person types to see exactly this run again.

Fault names (`f12`, `m3`) are written as ranges, since a run that was made smaller leaves most of a hundred out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from quorate.core.errors import CallerError
from quorate.sim.options import SimOptions

SKIPPED_MAX = 100_000
"""More names of faults than any run has; what a range may expand to."""
_RANGE = re.compile(r"([a-z]+)(\d{1,6})(?:-([a-z]*)(\d{1,6}))?")
_DIRECT = ("nodes", "seconds", "clients", "keys", "cold_keys", "durability", "mutant")


def replay_command(seed: int, options: SimOptions) -> str:
    """The command line that runs exactly this again, with a transcript."""
    defaults = SimOptions()
    words = [f"quorate sim --seed {seed} --trace"]
    for name in _DIRECT:
        value = getattr(options, name)
        if value != getattr(defaults, name):
            option = name.replace("_", "-")
            words.append(f"--{option} {value:.12g}" if isinstance(value, float) else f"--{option} {value}")
    if options.faults != defaults.faults:
        words.append(f"--faults '{','.join(options.faults) or 'none'}'")
    if options.skipped:
        words.append(f"--skip {ranges_of(options.skipped)}")
    assert {*_DIRECT, "faults", "skipped"} == set(msgspec.structs.asdict(options)), "an option that it does not tell"
    return " ".join(words)


def ranges_of(names: Iterable[str]) -> str:
    """("f1", "f2", "f3", "m2") → "f1-f3,m2". Names of another form stay as they are."""
    numbers: dict[str, set[int]] = {}
    others: list[str] = []
    for name in names:
        found = _RANGE.fullmatch(name)
        if found is None or found[4] or f"{found[1]}{int(found[2])}" != name:
            others.append(name)
        else:
            numbers.setdefault(found[1], set()).add(int(found[2]))
    parts = []
    for letter, wanted in sorted(numbers.items()):
        for number in sorted(wanted):
            if number - 1 not in wanted:
                parts.append(f"{letter}{number}")
            elif number + 1 not in wanted:
                parts[-1] += f"-{letter}{number}"
    return ",".join(parts + sorted(set(others)))


def names_of(text: str) -> tuple[str, ...]:
    """The inverse of `ranges_of`; raises `CallerError`."""
    names: dict[str, None] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = _RANGE.fullmatch(part)
        if found is None or found[3] not in (None, "", found[1]):
            names[part] = None
            continue
        first = int(found[2])
        last = int(found[4]) if found[4] else first
        if last < first:
            raise CallerError(f"'{part}' is an empty range of faults; write it as {found[1]}{last}-{found[1]}{first}")
        names.update(dict.fromkeys(f"{found[1]}{number}" for number in range(first, last + 1)))
        if len(names) > SKIPPED_MAX:
            raise CallerError(f"'{text[:40]}…' names more than {SKIPPED_MAX} faults; a run has fewer")
    return tuple(names)
