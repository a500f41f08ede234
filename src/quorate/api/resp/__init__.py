"""The client wire: RESP2 and RESP3, and the ring posing as a Redis Cluster.

Reading path: `server` (what connections share), `connection` (one client), `parser` and `slots` (bytes in, replies in
order), then `commands/`, one concept a file. Knows a node only as a `Store`.
"""
