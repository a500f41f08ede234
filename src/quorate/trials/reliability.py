"""`docs/reliability.md`, made from measured facts: what was tried against this store, and what came of it.

    python -m quorate.trials.reliability           writes docs/reliability.md
    python -m quorate.trials.reliability --check   says whether it is what the facts give; exit code 1 if not

The facts are the JSON documents in `docs/reliability/`, written by the commands that did the work (`quorate sim
--report`, the hunts for planted bugs, the trials on real processes), and the regression tests of the hard cases, which
are read from the tree. No figure stands in the page that is not in one of them, and a fact that is not there is said to
be missing: a page that only ever sounds good says nothing.

Rejected: running everything in one command. It takes hours, on quiet cores; each part is repeated by itself.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from quorate.core.errors import CallerError
from quorate.sim.coverage import injected
from quorate.sim.mutants.document import MutantFacts
from quorate.sim.summary import Summary
from quorate.trials import limits_text
from quorate.trials.facts import Damage
from quorate.trials.run import Report

PAGE: Final = Path("docs/reliability.md")
FACTS: Final = Path("docs/reliability")
REGRESSIONS: Final = Path("tests/regressions")
HARD_CASES: Final = 36
Facts = TypeVar("Facts")


def page(root: Path) -> str:
    """The whole document, from the facts under `root` (the top of the source tree). Raises `CallerError` for a
    document of facts that cannot be read."""
    facts = root / FACTS
    parts = [
        limits_text.OPENING,
        _simulation(_read(facts / "simulation.json", Summary), _read(facts / "twice.json", Summary)),
        _mutants(_read(facts / "mutants.json", MutantFacts)),
        _trials([_read(path, Report) for path in sorted(facts.glob("trial-*.json"))]),
        _damage(_read(facts / "damage.json", Damage)),
        _hard_cases(root / REGRESSIONS),
        limits_text.KNOWN_LIMITS,
        limits_text.AGAIN,
    ]
    return "\n".join(part.strip() + "\n" for part in parts)


def _read(path: Path, kind: type[Facts]) -> Facts | None:
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except msgspec.DecodeError as error:
        raise CallerError(f"{path} is not a document of the kind {kind.__name__}: {error}; make it again") from error


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _number(count: float) -> str:
    return f"{count:,.0f}"


def _missing(what: str, command: str) -> str:
    return f"**Not measured for this version.** {what}: `{command}`."


# --- the simulator ---


def _simulation(batch: Summary | None, twice: Summary | None) -> str:
    text = "## Simulated clusters\n\n"
    if batch is None:
        text += _missing("The batch of seeds", "make sim")
    else:
        text += _batch(batch)
    return text + "\n\n### The same run twice\n\n" + _twice(twice)


def _batch(batch: Summary) -> str:
    last = batch.first_seed + batch.seeds - 1
    verdict = "**No check found anything.**" if batch.ok else f"**{batch.failed_runs} runs failed.**"
    text = (
        f"Seeds {batch.first_seed} to {last}, {batch.options.seconds:g} virtual seconds of load each, then healing: "
        f"{batch.runs:,} runs in {batch.elapsed_s / 60:.1f} minutes ({batch.versions.platform}, Python "
        f"{batch.versions.python}), **{batch.cluster_hours:.1f} cluster-hours, {_number(batch.operations_total)} "
        f"operations, {_number(batch.faults_injected)} faults.** {verdict}\n\n"
    )
    if batch.failed:
        text += (
            "".join(f"- seed {run.seed}: {run.violations[0].check}; `{run.replay}`\n" for run in batch.failed) + "\n"
        )
    if batch.interrupted:
        text += "The batch was interrupted.\n\n"
    text += f"Idle runs (next to nothing was acknowledged, or nothing happened): {batch.idle_runs}"
    text += "".join(f"; seed {run.seed}: {run.reason}" for run in batch.idle[:10]) + ".\n\n"
    text += f"Expected states that no run reached: {', '.join(batch.unreached) or 'none'}.\n\n"
    sizes = ", ".join(f"{nodes} in {runs:,}" for nodes, runs in sorted(batch.nodes.items()))
    modes = ", ".join(f"`{mode}` in {runs:,}" for mode, runs in sorted(batch.durability.items()))
    text += f"Founding nodes: {sizes} runs. Durability: {modes}.\n\n"
    for title, counts in (("operations", batch.operations), ("faults", batch.faults), ("states", batch.states)):
        shown = {name: count for name, count in counts.items() if title != "faults" or injected({name: 1})}
        rows = ((name, _number(count.times), _number(count.runs)) for name, count in sorted(shown.items()))
        text += f"### {title.capitalize()}\n\n" + _table((title, "times", "in runs"), rows) + "\n\n"
    return text.strip()


def _twice(twice: Summary | None) -> str:
    if twice is None:
        return _missing("Equal hashes in two processes", "quorate sim --runs 500 --twice")
    found = "all traces were equal" if not twice.different_runs else f"**{twice.different_runs} differed**"
    return (
        f"{twice.runs} seeds from {twice.first_seed}, {twice.options.seconds:g} s each, in two processes with "
        f"different string hashes: {found}."
    )


# --- planted bugs ---


def _mutants(found: MutantFacts | None) -> str:
    text = "## Planted bugs\n\n"
    if found is None:
        return text + _missing("The hunts", "python -m quorate.sim.mutants")
    hunted = [one for one in found.mutants if not one.unseen_because]
    medians = sorted(one.median for one in hunted if one.median is not None)
    missed = [one.name for one in hunted if one.median is None]
    middle = f"{medians[len(medians) // 2]:g}" if medians else "none"
    text += (
        f"{len(hunted)} safeguards were taken out one at a time, and each was hunted from {found.ranges} "
        f"different first seeds, for at most {found.seeds_max} seeds. Not caught: {', '.join(missed) or 'none'}. "
        f"Median over all of the seeds needed: {middle}; the worst of the medians: {max(medians, default=0):g}.\n\n"
    )
    rows = (
        (
            f"`{one.name}`",
            one.bug,
            ", ".join(one.seen_by) or "nothing",
            ", ".join("not" if caught is None else str(caught) for caught in one.caught_in),
            one.why_these or "the swarm",
        )
        for one in hunted
    )
    text += _table(("bug", "what it does", "seen by", "caught in (seeds)", "hunted with"), rows)
    unseen = [(f"`{one.name}`", one.bug, one.unseen_because) for one in found.mutants if one.unseen_because]
    if unseen:
        text += f"\n\n{len(unseen)} more can be planted and are not hunted:\n\n"
        text += _table(("bug", "what it does", "why no seed shows it"), unseen)
    return text


# --- real processes ---


def _trials(reports: Sequence[Report | None]) -> str:
    text = "## Real processes\n\n"
    if not reports:
        return text + _missing("The trials", "python -m quorate.trials all")
    text += (
        "Five processes on one machine under load, their histories judged by the same checkers; every batch on its way "
        "to a disk is looked at.\n\n"
    )
    rows = []
    for report in reports:
        assert report is not None, "the file was listed a moment ago"
        operations = sum(report.operations.values())
        found = ", ".join(sorted({violation.check for violation in report.violations})) or "nothing"
        rows.append(
            (
                f"`{report.trial}`",
                report.cycles,
                ", ".join(f"{times:,} {what}" for what, times in sorted(report.faults.items())) or "none",
                f"{operations:,}",
                f"{report.changes:,}",
                found if report.cycles else "not run",
                "; ".join(report.skipped) or "nothing",
            )
        )
    head = ("trial", "cycles", "faults", "operations", "batches", "violations", "skipped, and why")
    return text + _table(head, rows)


def _damage(damage: Damage | None) -> str:
    text = "## Damaged files\n\n"
    if damage is None:
        return text + _missing("Every offset cut off, every byte with a flipped bit", "see tests/regressions/test_25_*")
    text += f"{damage.how}\n\n"
    rows = (
        (f"`{one.file}`", one.size_bytes, one.cut, one.flipped, one.started, one.refused, one.wrong)
        for one in damage.files
    )
    head = ("file", "bytes", "cut off", "bits flipped", "started", "refused, with a reason", "wrong values")
    return text + _table(head, rows)


# --- hard cases ---


def _hard_cases(folder: Path) -> str:
    text = (
        f"## The {HARD_CASES} hard cases\n\nWays in which stores of this kind have lost data, or stopped serving it. "
        "Each has a test of its own, which says what went wrong and where.\n\n"
    )
    rows = []
    for number in range(1, HARD_CASES + 1):
        files = sorted(folder.glob(f"test_{number:02d}_*.py"))
        if not files:
            rows.append((number, "no test", ""))
        for path in files:
            rows.append((number, _first_sentence(path), f"`{path.name}`"))
    return text + _table(("case", "what went wrong", "test"), rows)


def _first_sentence(path: Path) -> str:
    """What the docstring of a test says after "Hard case n:", up to its first full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    sentence = paragraph.partition(": ")[2] or paragraph
    return sentence.partition(". ")[0].rstrip(".")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or compare; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m quorate.trials.reliability", description="Write docs/reliability.md."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; say whether the page is up to date")
    parser.add_argument("--root", type=Path, default=Path(), help="top of the source tree [.]")
    options = parser.parse_args(arguments)
    target = options.root / PAGE
    try:
        text = page(options.root)
    except CallerError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    if options.check:
        same = target.exists() and target.read_text() == text
        sys.stdout.write(
            f"{target} is {'up to date' if same else 'not what the facts give; run this without --check'}\n"
        )
        return 0 if same else 1
    target.write_text(text)
    sys.stdout.write(f"{target}: {len(text.splitlines())} lines\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
