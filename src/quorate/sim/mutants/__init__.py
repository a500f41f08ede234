"""Bugs planted on purpose: what a checker is worth shows when it meets one.

A checker that never fired proves nothing. So each safeguard of the node has a *mutant* here, which switches it off for
the length of one run: a file a subject, the `registry` of them, and the `hunt` that counts the seeds it takes.

Production code has no branch for any of this: a mutant replaces functions and methods of the production modules from
outside, and puts them back (`patches`). Rejected: switches in the code under test (they stay there, and cost a look at
each request); copies of modules with a bug in them (they fall behind the originals, unnoticed); the monkeypatching of a
test framework (a planted bug could not be hunted from the command line, nor in other processes).
"""
