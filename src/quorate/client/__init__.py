"""The Python clients: an asynchronous and a synchronous shell around one core that does no IO.

Reading order: `protocol` (bytes), `values` (codecs and what a get returns), `commands` (arguments to commands),
`routing` (which node), `operations` (what happens after a failure: the only copy of the retry policy), then the
shells `asynchronous` (with `streams`) and `synchronous` (with `sockets`).
"""
