"""The retry policy, without any IO: what is retried, where, for how long, and whether the outcome told is true."""

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.client.commands import bucket_command, get_command, put_command, status_command
from quorate.client.operations import Operation, RetryBudget
from quorate.client.protocol import MAY_BE_DONE, AttemptFailure, Command, FailureKind, Safety
from quorate.client.routing import Node, Router
from quorate.core.errors import CallerError, OutcomeUnknown, Overloaded, QuorateError, Unavailable
from quorate.core.limits import ATTEMPTS_MAX, RETRY_TOKENS_MAX
from quorate.core.ring.ring import Member, Ring

TIMEOUT_MS = 1_000


def router_of(nodes: int) -> Router[Node]:
    members = [
        Member(n, f"{n:032x}", f"n{n}", f"h{n}", "z", 1, "", f"127.0.0.1:{7400 + n}", "") for n in range(1, nodes + 1)
    ]
    router: Router[Node] = Router(Node)
    router.install(Ring("c" * 32, 1, members, [members[p % nodes].number for p in range(16)]))
    return router


def put() -> Command:
    return put_command(b"carts", "alice", b"1", 10**18, None, None, None, None, None, False)


def read() -> Command:
    return get_command(b"carts", "alice", None)


def start(command: Command, nodes: int = 3, budget: RetryBudget | None = None) -> tuple[Router[Node], Operation[Node]]:
    router = router_of(nodes)
    return router, Operation(router, budget or RetryBudget(), command, b"carts", TIMEOUT_MS, 0.0)


def failure(kind: FailureKind, retry_after_ms: int = 0) -> AttemptFailure:
    return AttemptFailure(kind, f"it was {kind.value}", retry_after_ms)


def ending(operation: Operation[Node], kinds: list[FailureKind], now: float = 1.0) -> QuorateError:
    """The error that ends an operation whose attempts fail like `kinds`, the last kind for ever."""
    with pytest.raises(QuorateError) as caught:
        for index in range(100):
            node, attempt_ms = operation.attempt(now)
            now += 1 + operation.failed(node, failure(kinds[min(index, len(kinds) - 1)]), attempt_ms, now + 1)
    return caught.value


def test_a_lost_read_is_retried_on_another_node() -> None:
    _, operation = start(read())
    first, attempt_ms = operation.attempt(0.0)
    assert operation.failed(first, failure(FailureKind.LOST), attempt_ms, 1.0) == 0
    second, _ = operation.attempt(1.0)
    assert second is not first


def test_a_lost_write_is_retried_with_the_same_bytes_and_then_unknown() -> None:
    command = put()
    _, operation = start(command)
    first, attempt_ms = operation.attempt(0.0)
    assert operation.failed(first, failure(FailureKind.LOST), attempt_ms, 1.0) == 0
    assert command.payload(100).count(b"%d" % 10**18) == 1
    error = ending(operation, [FailureKind.UNAVAILABLE])
    assert isinstance(error, OutcomeUnknown), "a later 'not done' is no answer to the attempt that was lost"
    assert "127.0.0.1:740" in str(error)


def test_a_write_that_was_never_sent_is_unavailable() -> None:
    _, operation = start(put())
    error = ending(operation, [FailureKind.NOT_SENT])
    assert type(error) is Unavailable
    assert [str(error).count(f"127.0.0.1:740{n}") for n in (1, 2, 3)] == [1, 1, 1], "each reason is told once"


def test_a_change_without_operation_id_is_not_retried_once_sent() -> None:
    _, operation = start(bucket_command(b"carts", {"n": 1}))
    node, attempt_ms = operation.attempt(0.0)
    with pytest.raises(OutcomeUnknown):
        operation.failed(node, failure(FailureKind.LOST), attempt_ms, 1.0)


def test_a_change_without_operation_id_is_retried_if_not_sent() -> None:
    _, operation = start(bucket_command(b"carts", {"n": 1}))
    node, attempt_ms = operation.attempt(0.0)
    assert operation.failed(node, failure(FailureKind.NOT_SENT), attempt_ms, 1.0) == 0
    assert operation.attempt(1.0)[0] is not node


def test_a_refusal_ends_a_call_at_once_with_the_nodes_words() -> None:
    _, operation = start(put())
    node, attempt_ms = operation.attempt(0.0)
    with pytest.raises(CallerError, match="w=9 is above n=3"):
        operation.failed(node, hiredis.ReplyError("ERR w=9 is above n=3"), attempt_ms, 1.0)


def test_a_refusal_after_a_lost_attempt_is_unknown() -> None:
    _, operation = start(put())
    assert isinstance(ending(operation, [FailureKind.TIMED_OUT, FailureKind.REFUSED]), OutcomeUnknown)


def test_an_overloaded_node_is_left_alone_for_as_long_as_it_says() -> None:
    _, operation = start(put())
    node, attempt_ms = operation.attempt(0.0)
    reply = hiredis.ReplyError("OVERLOADED retry-after-ms=70 too many requests")
    assert operation.failed(node, reply, attempt_ms, 1.0) == 70


def test_overload_past_the_deadline_is_told_at_once() -> None:
    _, operation = start(put())
    node, attempt_ms = operation.attempt(0.0)
    with pytest.raises(Overloaded) as caught:
        operation.failed(node, hiredis.ReplyError("OVERLOADED retry-after-ms=5000"), attempt_ms, 1.0)
    assert caught.value.retry_after_ms == 5000


@pytest.mark.parametrize("reply", [7, None, [], "status", hiredis.ReplyError("STRANGE what")])
def test_a_malformed_reply_to_a_write_is_never_called_not_done(reply: object) -> None:
    command = put()
    _, operation = start(command, nodes=1)
    with pytest.raises(OutcomeUnknown):
        for _ in range(10):
            node, attempt_ms = operation.attempt(1.0)
            operation.failed(node, reply, attempt_ms, 1.0)


def test_when_all_nodes_were_asked_there_is_a_growing_pause() -> None:
    _, operation = start(read(), nodes=2)
    pauses = []
    for _ in range(4):
        node, attempt_ms = operation.attempt(0.0)
        pauses.append(operation.failed(node, failure(FailureKind.UNAVAILABLE), attempt_ms, 1.0))
    assert pauses[0] == pauses[2] == 0
    assert 0 < pauses[1] < pauses[3]


def test_after_unavailable_a_write_is_not_tried_on_nodes_in_doubt() -> None:
    router, operation = start(put())
    healthy, *others = router.nodes.values()
    for other in others:
        other.doubt(0.0)
    for _ in range(3):
        node, attempt_ms = operation.attempt(0.0)
        assert node is healthy, "a stopped node might do the write hours later"
        operation.failed(node, failure(FailureKind.UNAVAILABLE), attempt_ms, 1.0)


def test_no_attempt_begins_after_the_deadline() -> None:
    _, operation = start(put())
    with pytest.raises(Unavailable):
        operation.attempt(TIMEOUT_MS + 1.0)


def test_one_silent_node_leaves_time_for_another() -> None:
    router, operation = start(put())
    for node in router.nodes.values():
        for _ in range(100):
            node.observe(5_000.0)
    _, attempt_ms = operation.attempt(0.0)
    assert attempt_ms <= TIMEOUT_MS / 2


def test_a_lone_node_gets_all_the_time() -> None:
    _, operation = start(put(), nodes=1)
    assert operation.attempt(0.0)[1] == TIMEOUT_MS


def test_what_asks_the_whole_cluster_is_given_half_the_time() -> None:
    _, operation = start(status_command())
    assert operation.attempt(0.0)[1] == TIMEOUT_MS / 2


def test_retries_are_a_tenth_of_the_calls_in_the_long_run() -> None:
    budget = RetryBudget()
    burst = sum(budget.spend() for _ in range(10 * RETRY_TOKENS_MAX))
    assert burst == RETRY_TOKENS_MAX
    budget.calls += 1_000
    assert 99 <= sum(budget.spend() for _ in range(1_000)) <= 100


def test_without_budget_a_failure_is_final_unless_nothing_was_sent() -> None:
    budget = RetryBudget()
    while budget.spend():
        pass
    _, operation = start(read(), budget=budget)
    node, attempt_ms = operation.attempt(0.0)
    assert operation.failed(node, failure(FailureKind.NOT_SENT), attempt_ms, 1.0) == 0
    node, attempt_ms = operation.attempt(0.0)
    with pytest.raises(Unavailable, match="too many retries"):
        operation.failed(node, failure(FailureKind.LOST), attempt_ms, 1.0)


@given(
    kinds=st.lists(st.sampled_from(FailureKind), min_size=1, max_size=8),
    kind_of_call=st.sampled_from(["read", "put", "once"]),
    nodes=st.integers(1, 4),
)
def test_the_outcome_is_true(kinds: list[FailureKind], kind_of_call: str, nodes: int) -> None:
    """Brute force over sequences of failures: not done ⇔ no attempt that was made may have been done."""
    command = {"read": read(), "put": put(), "once": bucket_command(b"carts", {"n": 1})}[kind_of_call]
    _, operation = start(command, nodes=nodes)
    made: list[FailureKind] = []
    now = 0.0
    with pytest.raises(QuorateError) as caught:
        while True:
            node, attempt_ms = operation.attempt(now)
            assert 0 < attempt_ms <= TIMEOUT_MS - now
            made.append(kinds[len(made) % len(kinds)])
            now += 1
            now += operation.failed(node, failure(made[-1]), attempt_ms, now)
    may_be_done = command.safety is not Safety.READ and any(kind in MAY_BE_DONE for kind in made)
    assert isinstance(caught.value, OutcomeUnknown) == may_be_done
    assert len(made) <= ATTEMPTS_MAX
    if command.safety is Safety.ONCE:
        assert not any(kind in MAY_BE_DONE for kind in made[:-1])
