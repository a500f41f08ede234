"""The HTTP interface: the store for curl, scripts, and browsers (design §1).

Reading path: `routes` (every call, declared once: routing, the parsing of parameters and the OpenAPI document all come
from there), `server` (what requests share, and the life of one), `connection` (the limits of one client), `guard` (whom
to answer at all), then the handlers: `values`, `buckets`, `cluster`, `membership`, `health`. Knows a node only as a
`Store`.
"""
