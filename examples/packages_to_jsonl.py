"""Turn Debian package records into JSON lines, to have a few tens of thousands of real records to import.

    apt-cache dumpavail | python examples/packages_to_jsonl.py > packages.jsonl
    quorate import packages packages.jsonl --key id
    quorate get packages bash=5.2.15-2+b2:amd64

A record is a stanza of `Field: value` lines; lines that start with white space continue the field before them. The key
is made of name, version and architecture, which together are unique.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator


def stanzas(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    """The records of a package list, each as field → text with its line breaks kept."""
    record: dict[str, str] = {}
    field = ""
    for line in map(str.rstrip, lines):
        if not line:
            if record:
                yield record
            record, field = {}, ""
        elif line[0] in " \t":
            record[field] += "\n" + line
        else:
            field, _, text = line.partition(":")
            record[field] = text.strip()
    if record:
        yield record


def main() -> None:
    for record in stanzas(sys.stdin):
        identity = f"{record['Package']}={record['Version']}:{record['Architecture']}"
        sys.stdout.write(json.dumps({"id": identity, **record}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
