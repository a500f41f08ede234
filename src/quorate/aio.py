"""The asynchronous client: `async with quorate.aio.connect("127.0.0.1:7401") as db`."""

from quorate.client.asynchronous import Bucket, Client, connect
from quorate.client.values import Codec, Got, Sibling

__all__ = ["Bucket", "Client", "Codec", "Got", "Sibling", "connect"]
