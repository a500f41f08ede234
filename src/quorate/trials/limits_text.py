"""What `docs/reliability.md` says in words: what cannot be measured, above all what is not promised."""

from __future__ import annotations

from typing import Final

OPENING: Final = """
# Reliability

What was done to this store to make it lose data, and what came of it. This page is made by `python -m
quorate.trials.reliability` from the documents in `docs/reliability/`; [simulation.md](simulation.md) says what is
simulated and what each check means.
"""

KNOWN_LIMITS: Final = """
## Known limits

What is not promised, and therefore not checked:

- **Last write wins loses writes.** In a bucket with `conflicts=lww` one of two concurrent values stays, by time. What a
  writer had seen is never overtaken by a clock; between concurrent writes, clocks that differ by up to the documented
  skew (a minute) decide.
- **All N replicas, at once.** What is only on disks that are lost together is lost. With `durability=os` a write that
  was acknowledged may be in the memory of W machines; if all of them lose their power within seconds, it is gone.
- **W is what was asked.** A write with W=1 is one disk away from being lost. A quorum that is smaller than the
  bucket's, asked for by a single request, is not part of what a change of the membership keeps whole.
- **The grace rule.** Deletes and expired values are removed after `grace` (a day) and with proof. A node that was away
  for longer empties itself before it serves; what only it held, because it took it while it was cut off from all
  others, goes with that.
- **Fallbacks void R+W>N.** A sloppy write may be on nodes that a read does not ask. `strict=true` forbids fallbacks.
- **No linearizability.** A read may show a write that is not acknowledged yet, and the next one, from other replicas,
  may not. Bucket properties and the ring are different: they are decided by consensus.
- **Listings** do not see keys that only hints hold.
- **Clocks.** A replica whose clock is more than a minute behind prevents collection; it loses nothing.
- **The simulator** keeps to what is promised: it wipes no disk that holds the last copy of an acknowledged write. It
  does not simulate the storage engine itself; damage to its files is tried on real ones.
"""

AGAIN: Final = """
## Again

```
make sim                                        # the batch, with fresh seeds
quorate sim --seed 17 --trace                   # one seed, event by event
quorate sim --seed 17 --shrink                  # the smallest run that still fails
quorate sim --runs 500 --twice                  # equal traces in two processes
python -m quorate.sim.mutants                   # all planted bugs
python -m quorate.trials kill --cycles 200      # real processes
python -m quorate.trials.reliability            # this page
```
"""
