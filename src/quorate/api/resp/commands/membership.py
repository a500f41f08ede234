"""KV.PLAN, KV.COMMIT, KV.ABORT, KV.FORCE, KV.TRANSFERS, KV.MEMBERS: how operators change who belongs to the cluster.

A change is planned first, and then begun by the plan's id together with the wish that led to it: any member works the
same plan out of both, so nothing has to be kept between the two commands, and a plan that was shown by one node can be
begun at another. Wishes are JSON, since they get more fields sooner than positions can carry.

Whether a wish can be granted is the Store's business. Here only its form is checked: its size before it is decoded,
its fields and their types after that. An unknown field is refused, for it would mean something that is not done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from quorate.api.resp import replies
from quorate.api.resp.commands.command import ADMIN, Command
from quorate.core.errors import CallerError
from quorate.core.limits import MEMBERS_MAX
from quorate.core.store import Wish

if TYPE_CHECKING:
    from quorate.api.resp.connection import RespConnection

NAME_BYTES_MAX: Final = 256
"""Of a name or an id by which a member is called."""
WISH_BYTES_MAX: Final = 4 * NAME_BYTES_MAX
PLAN_ID_BYTES_MAX: Final = 64
LOST_BYTES_MAX: Final = MEMBERS_MAX * NAME_BYTES_MAX

_decode_wish = msgspec.json.Decoder(Wish).decode
_decode_names = msgspec.json.Decoder(list[str]).decode


def kv_plan(connection: RespConnection, arguments: list[bytes]) -> None:
    wish = _wish(arguments[1])
    slot = connection.slot()
    connection.store.plan(wish, lambda result: slot.fill(replies.document(result)))


def kv_commit(connection: RespConnection, arguments: list[bytes]) -> None:
    plan_id = arguments[1]
    if not plan_id.isalnum() or len(plan_id) > PLAN_ID_BYTES_MAX:
        raise CallerError("a plan is named by the id that KV.PLAN gave")
    wish = _wish(arguments[2])
    slot = connection.slot()
    connection.store.commit(wish, plan_id.decode(), lambda result: slot.fill(replies.document(result)))


def kv_abort(connection: RespConnection, arguments: list[bytes]) -> None:
    slot = connection.slot()
    connection.store.abort(lambda result: slot.fill(replies.document(result)))


def kv_force(connection: RespConnection, arguments: list[bytes]) -> None:
    """`KV.FORCE ["n1", "n2"]`: these are lost for good, and the others go on without them."""
    lost: list[str] = _decoded(_decode_names, arguments[1], LOST_BYTES_MAX, 'the lost members, such as ["n1", "n2"],')
    if not lost:
        raise CallerError("KV.FORCE has to be told which members are lost")
    for name in lost:
        _check_name(name, "a lost member")
    slot = connection.slot()
    connection.store.force(lost, lambda result: slot.fill(replies.document(result)))


def kv_transfers(connection: RespConnection, arguments: list[bytes]) -> None:
    slot = connection.slot()
    connection.store.transfers(lambda result: slot.fill(replies.document(result)))


def kv_members(connection: RespConnection, arguments: list[bytes]) -> None:
    slot = connection.slot()
    connection.store.members(lambda result: slot.fill(replies.document(result)))


def _wish(body: bytes) -> Wish:
    """The wish in `body`; raises `CallerError` unless it has the form of one."""
    wish: Wish = _decoded(_decode_wish, body, WISH_BYTES_MAX, 'a wish, such as {"kind": "join", "node": "n4"},')
    _check_name(wish.node, "'node'")
    if wish.by or wish.kind == "replace":
        _check_name(wish.by, "'by'")
    return wish


def _decoded(decode: Any, body: bytes, bytes_max: int, what: str) -> Any:
    if len(body) > bytes_max:
        raise CallerError(f"{what} has at most {bytes_max} bytes; this has {len(body)}")
    try:
        return decode(body)
    except (ValueError, RecursionError) as error:
        raise CallerError(f"{what} is given as JSON: {error}") from None


def _check_name(name: str, what: str) -> None:
    if not 1 <= len(name.encode(errors="surrogatepass")) <= NAME_BYTES_MAX:
        raise CallerError(f"{what} has to be the name or the id of a node, of 1 to {NAME_BYTES_MAX} bytes")


COMMANDS = [
    Command("kv.plan", kv_plan, 2, 2, "What a change of membership would do, without doing it", ADMIN, group="kv"),
    Command("kv.commit", kv_commit, 3, 3, "Begin a change of membership that was planned", ADMIN, group="kv"),
    Command("kv.abort", kv_abort, 1, 1, "Take the change of membership under way back", ADMIN, group="kv"),
    Command("kv.force", kv_force, 2, 2, "Go on without members that are lost for good", ADMIN, group="kv"),
    Command("kv.transfers", kv_transfers, 1, 1, "The change of membership that is under way", ADMIN, group="kv"),
    Command("kv.members", kv_members, 1, 1, "Who belongs to the cluster, and who would like to", ADMIN, group="kv"),
]
