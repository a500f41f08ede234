"""Buckets: their properties, and their keys page by page."""

from __future__ import annotations

import msgspec
from aiohttp import web

from quorate.api.http.bodies import read_document
from quorate.api.http.call import Call, ask, json_answer
from quorate.api.http.documents import BucketChanges, BucketDocument, BucketsDocument, KeysDocument, name_of
from quorate.api.http.problems import Problem
from quorate.core.store import KeysRequest

_NO_BUCKET = b""
"""No bucket has this name, so its properties are the defaults."""


async def list_buckets(call: Call) -> web.StreamResponse:
    store = call.store
    found = [BucketDocument(name_of(name), properties) for name, properties in sorted(store.buckets().items())]
    return json_answer(BucketsDocument(found, store.bucket_properties(_NO_BUCKET)))


async def get_bucket(call: Call) -> web.StreamResponse:
    return _bucket_answer(call)


async def put_bucket(call: Call) -> web.StreamResponse:
    changes = await read_document(call, BucketChanges)
    texts = {
        name: _text(value) for name, value in msgspec.structs.asdict(changes).items() if value is not msgspec.UNSET
    }
    if not texts:
        raise Problem("bad-request", 'no property is to be changed; name one, such as {"n": 3}')
    await ask(call.store.set_bucket, call.path["bucket"], texts)
    return _bucket_answer(call)


async def list_keys(call: Call) -> web.StreamResponse:
    options = call.options
    request = KeysRequest(
        call.path["bucket"],
        options.get("prefix", b""),
        options.get("limit", 100),
        options.get("cursor", ""),
        options.get("timeout_ms", 0),
    )
    page = await ask(call.store.keys, request)
    return json_answer(KeysDocument([name_of(key) for key in page.keys], page.cursor or None))


def _bucket_answer(call: Call) -> web.Response:
    bucket = call.path["bucket"]
    return json_answer(BucketDocument(name_of(bucket), call.store.bucket_properties(bucket)))


def _text(value: object) -> str:
    """A property's value as a person would type it, which is how the store takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
