"""The wire between nodes, as pure code: bytes in, values and bytes out; no sockets, no clock, no randomness.

Reading path: `framing` (where a frame begins and ends), `age` (how long it was on the way), `codec` (the messages
inside), `handshake` (who is at the other end), `address` (host:port).
"""
