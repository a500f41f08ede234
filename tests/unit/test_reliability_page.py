"""`docs/reliability.md` is what its facts give, and says what is missing."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from quorate.sim.history import Violation
from quorate.sim.mutants.document import MutantFacts, MutantFound
from quorate.sim.options import Outcome, SimOptions
from quorate.sim.summary import Summary, versions
from quorate.trials.facts import Damage, DamagedFile
from quorate.trials.reliability import FACTS, HARD_CASES, PAGE, main, page
from quorate.trials.run import Report

ROOT = Path(__file__).parents[2]


def write(root: Path, name: str, facts: object) -> None:
    folder = root / FACTS
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(msgspec.json.encode(facts))


def summary(*outcomes: Outcome) -> Summary:
    made = Summary(first_seed=7, seeds=len(outcomes), options=SimOptions(seconds=120), versions=versions("0.1.0"))
    for outcome in outcomes:
        made.add(outcome)
    return made


def outcome(seed: int, *violations: Violation) -> Outcome:
    return Outcome(seed, "", 1, 7_200_000, "os", {"put ok": 1_500}, {"kill": 3}, list(violations), nodes=5)


def test_without_facts_the_page_says_what_is_missing(tmp_path: Path) -> None:
    text = page(tmp_path)
    assert text.count("Not measured for this version") == 5
    assert text.count("| no test |") == HARD_CASES


def test_what_failed_is_told(tmp_path: Path) -> None:
    write(tmp_path, "simulation.json", summary(outcome(7), outcome(8, Violation("D", "gone"))))
    text = page(tmp_path)
    assert "**1 runs failed.**" in text and "seed 8: D; `quorate sim --seed 8" in text
    assert "4.0 cluster-hours, 3,000 operations, 6 faults" in text
    assert "No check found anything" not in text


def test_what_passed_is_told(tmp_path: Path) -> None:
    write(tmp_path, "simulation.json", summary(outcome(7)))
    assert "No check found anything" in page(tmp_path)


def test_a_bug_that_was_not_caught_is_named(tmp_path: Path) -> None:
    found = [
        MutantFound("caught", "b", ("D",), (), "", SimOptions(), "", [1, 5, 3], 3.0, ["D"]),
        MutantFound("hidden", "b", ("D",), (), "rare", SimOptions(), "", [None, None, 8], None, ["D"]),
    ]
    write(tmp_path, "mutants.json", MutantFacts(3, 200, found))
    text = page(tmp_path)
    assert "Not caught: hidden." in text and "seeds needed: 3; the worst" in text
    assert "| not, not, 8 |" in text


def test_a_bug_that_no_seed_can_show_is_told_with_its_reason(tmp_path: Path) -> None:
    found = [MutantFound("unseen", "b", ("D",), (), "", SimOptions(), "nobody looks", [], None, [])]
    write(tmp_path, "mutants.json", MutantFacts(3, 200, found))
    text = page(tmp_path)
    assert "1 more can be planted and are not hunted" in text and "| `unseen` | b | nobody looks |" in text
    assert "0 safeguards" in text and "Not caught: none" in text


def test_trials_and_damage_have_their_rows(tmp_path: Path) -> None:
    write(tmp_path, "trial-kill.json", Report("kill", 1, 200, 1.0, {"put ok": 10}, {"kill": 200}, 77))
    lost = Report("pause", 1, 2, violations=[Violation("Z", "back")])
    write(tmp_path, "trial-pause.json", lost)
    write(tmp_path, "damage.json", Damage("so", [DamagedFile("node.json", 100, 100, 100, 1, 199, 0)]))
    text = page(tmp_path)
    assert "| `kill` | 200 | 200 kill | 10 | 77 | nothing | nothing |" in text
    assert "| `pause` | 2 | none | 0 | 0 | Z | nothing |" in text
    assert "| `node.json` | 100 | 100 | 100 | 1 | 199 | 0 |" in text


def test_a_document_that_is_none_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "simulation.json", {"runs": "many"})
    assert main(["--root", str(tmp_path)]) == 1
    assert "simulation.json" in capsys.readouterr().err


def test_the_page_in_the_tree_is_what_its_facts_give() -> None:
    assert (ROOT / PAGE).read_text() == page(ROOT), "make it again: python -m quorate.trials.reliability"
    assert "| no test |" not in page(ROOT)
