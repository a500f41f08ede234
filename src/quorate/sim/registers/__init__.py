"""Linearizability of single registers (Herlihy and Wing, TOPLAS 1990): two judges, and what is brought before them.

`history` says what an operation on a register is. `zones` judges writes of unique values in O(n log n), `search` judges
compare-and-set as well, within a bound. `of_history` makes registers of a simulated run, to measure how often the store
behaved like one, which it does not promise. `metadata` makes registers of what operators did to the ring and to
buckets, where it is promised.
"""
