"""Every bound in one place, cross-checked, so that no queue, buffer, retry or wait is unbounded.

Units stand last in the names. Limits on keys and values guard the client path only, never repair or
transfer: a record that was once accepted must always be able to travel (hard case 36).
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# What a client may send.
KEY_BYTES_MAX: Final = 1 * KIB
BUCKET_NAME_BYTES_MAX: Final = 64
VALUE_BYTES_MAX_DEFAULT: Final = 8 * MIB
CONTENT_TYPE_BYTES_MAX: Final = 127
CONTEXT_TOKEN_BYTES_MAX: Final = 8 * KIB
CONTEXT_ENTRIES_MAX: Final = 330
"""Actors in one context token: as many as fit when each takes the most that msgpack needs (18 bytes)."""
SIBLINGS_MAX: Final = 100
"""A client's put that would leave more siblings than this is refused; sync never is (hard case 6)."""
CLOCK_ENTRIES_PRUNE_ABOVE: Final = 50

# The client port (RESP).
COMMAND_ARGUMENTS_MAX: Final = 1024 * KIB // 16
COMMAND_BYTES_MAX: Final = 64 * MIB
UNAUTHENTICATED_BYTES_MAX: Final = 16 * KIB
PIPELINE_COMMANDS_MAX: Final = 1024
CLIENT_OUTPUT_BYTES_HIGH: Final = 4 * MIB
CLIENT_OUTPUT_BYTES_LOW: Final = 1 * MIB
CLIENT_CONNECTIONS_MAX: Final = 4096
CLIENT_IDLE_TIMEOUT_MS: Final = 15 * 60 * 1000
AUTHENTICATION_TIMEOUT_MS: Final = 10_000
COMMAND_TIMEOUT_MS: Final = 30_000
"""A command whose bytes stop arriving half-way is given up after this long (slow loris)."""
COMMAND_PROGRESS_BYTES_MIN: Final = 16 * KIB
"""A half-sent command that brings at least this much within `COMMAND_TIMEOUT_MS` gets as much time again."""
INLINE_COMMAND_BYTES_MAX: Final = 16 * KIB
CLIENT_HELD_BYTES_MAX: Final = COMMAND_BYTES_MAX
"""What one connection may hold in values on their way in and replies on their way out before it stops reading."""
CLIENT_NAME_BYTES_MAX: Final = 64
CLIENT_SWEEP_INTERVAL_MS: Final = 500
"""How often all connections' time limits are looked at; the limits are exact to about this much."""
FAN_OUT_REQUESTS_MAX: Final = 64
"""Requests that one command on several keys (MGET, DEL) has in flight at once."""
SCAN_CURSORS_MAX: Final = 1024
"""SCAN positions that a node remembers; the least recently used one is forgotten."""
ERROR_REPLY_BYTES_MAX: Final = 1 * KIB
OPERATION_ID_BYTES_MAX: Final = 64

# The HTTP port. What is not here is as on the client port.
HTTP_CONNECTIONS_MAX: Final = 1_024
HTTP_HEAD_BYTES_MAX: Final = UNAUTHENTICATED_BYTES_MAX
"""Of a request line with all header fields: all that is kept for a client before it is known."""
HTTP_LINE_BYTES_MAX: Final = 8 * KIB
HTTP_FIELD_BYTES_MAX: Final = CONTEXT_TOKEN_BYTES_MAX + KIB
HTTP_FIELDS_MAX: Final = 64
HTTP_DOCUMENT_BYTES_MAX: Final = 256 * KIB
"""Of a request's JSON document."""
HTTP_HELD_BYTES_MAX: Final = 256 * MIB
"""What all HTTP connections together may hold in bodies on their way in, and large values on their way out."""
HTTP_PIECE_BYTES: Final = 128 * KIB
"""A value above this leaves in pieces of this size, each when the client has taken those before it."""

# The peer port.
FRAME_BYTES_MAX: Final = 64 * MIB
HANDSHAKE_FRAME_BYTES_MAX: Final = 4 * KIB
HANDSHAKE_TIMEOUT_MS: Final = 5_000
PEER_PING_INTERVAL_MS: Final = 250
PEER_SILENCE_TIMEOUT_MS: Final = 1_500
PEER_OUTPUT_BYTES_MAX: Final = 128 * MIB
PEER_CONNECTIONS_MAX: Final = 1024
RECONNECT_DELAY_MIN_MS: Final = 50
RECONNECT_DELAY_MAX_MS: Final = 1_000
PEER_DIAL_BACK_INTERVAL_MS: Final = 5_000
"""How often a node dials a peer that should have dialled it."""
PEER_CLOSE_TIMEOUT_MS: Final = 1_000
"""What was queued for peers when a node stops has so long to leave."""
PEER_REFUSALS_REMEMBERED_MAX: Final = 256
"""Refusals of peers are logged once each; so many are remembered for that."""
CANDIDATE_CONNECTIONS_MAX: Final = 64
"""Of nodes that ask to be joined; above this they are dropped, and ask again."""
CANDIDACY_INTERVAL_MS: Final = 1_000
CANDIDACY_TIMEOUT_MS: Final = 5_000
"""One member's answer to a candidate, connection and handshake included."""
CANDIDACY_MEMBERS_MAX: Final = 64
"""Members that a candidate asks in one round; where there are more, it asks the others in the next."""
DELAYED_MESSAGES_MAX: Final = 65_536
"""Messages that an injected fault may hold back at once (tests only); above this they are lost."""

# Requests.
REQUEST_TIMEOUT_DEFAULT_MS: Final = 1_000
REQUEST_TIMEOUT_MAX_MS: Final = 60_000
IN_FLIGHT_REQUESTS_MAX: Final = 8_192
IN_FLIGHT_BYTES_MAX: Final = 256 * MIB
LIST_PAGE_KEYS_MAX: Final = 1_000

# The Python clients.
SEEDS_MAX: Final = 64
CONNECTIONS_PER_NODE: Final = 3
"""Of an asynchronous client: each carries many requests at once, and more than one is used only if it is held up."""
HELD_UP_AFTER_MS: Final = 40
NODE_SILENT_AFTER_MS: Final = 25
"""A node that owes replies and has sent nothing for so long counts as that slow, whatever it was before."""
SOCKETS_PER_NODE_MAX: Final = 32
"""Of a synchronous client: each carries one request at a time, so this is also its threads per node."""
CALLS_IN_FLIGHT_MAX: Final = 1_024
CALLS_WAITING_MAX: Final = 65_536
"""Calls of an asynchronous client that wait for room among those in flight; above this they are refused."""
ATTEMPTS_MAX: Final = 6
ATTEMPT_TIMEOUT_MIN_MS: Final = 50
RETRY_TOKENS_MAX: Final = 512
RETRY_TOKENS_PER_CALL: Final = 0.1
"""Retries may add a tenth to the load in the long run, and one burst after a node's death."""
RETRY_DELAY_MIN_MS: Final = 25
RING_POLL_INTERVAL_MS: Final = 5_000
PROBE_TIMEOUT_MS: Final = 250
CONNECTION_SILENCE_MS: Final = 2_000
"""A connection that still owes a reply so long after the reply's time limit is closed."""
UPDATE_ATTEMPTS_DEFAULT: Final = 3
REPLY_BYTES_MAX: Final = SIBLINGS_MAX * VALUE_BYTES_MAX_DEFAULT + MIB

# Hints.
HINTS_BYTES_MAX: Final = 1024 * MIB
HINTS_IN_FLIGHT_MAX: Final = 64
"""Hints on the way to one home at a time."""

# Anti-entropy.
ANTI_ENTROPY_INTERVAL_MS: Final = 10_000
EXCHANGE_KEYS_MAX: Final = 512
"""Keys that one question to a replica lists."""
EXCHANGE_RECORDS_MAX: Final = 32
"""Records that one answer carries: what a replica takes in at once keeps its clients waiting for a fraction of a ms."""
EXCHANGE_BYTES_MAX: Final = MIB
"""Of the records of one answer, and of the writes on the way; a record that is larger goes alone (hard case 36)."""
EXCHANGE_RECORD_BYTES_MAX: Final = FRAME_BYTES_MAX - 4 * MIB
"""A record that is larger fits in no frame, and stays where it is."""
EXCHANGE_SCANNED_RECORDS_MAX: Final = 4_096
"""Records that one question makes each side look at; as many as it takes, in the turns of the loop."""
EXCHANGE_RECORDS_PER_OPERATION: Final = 4
"""Records that cost as much as one hint that goes home, for the admission of background work: each side pays them."""
EXCHANGE_WRITES_IN_FLIGHT_MAX: Final = 32
EXCHANGE_RECORDS_HELD_MAX_MS: Final = 60_000
"""A peer's records that could not be taken in for so long are dropped: what is older may have been collected since."""
EXCHANGE_ANSWERS_MAX: Final = 16
"""Questions that a node works on at once; above this it answers that it is overloaded."""
SCAN_CHUNK_RECORDS: Final = 64
SCAN_CHUNK_BYTES: Final = 2 * MIB
"""What a background scan reads in one turn of the loop, whichever comes first."""
SCAN_RECORDS_PER_OPERATION: Final = 64
"""Records looked at that cost as much as one record moved, for the admission of background work."""

# Hash trees.
DAMAGED_KEYS_MAX: Final = 16_384
"""Damaged records that a node remembers; one that it forgets and reads again costs a rebuild of its partition."""

# Collection of tombstones and expired values.
COLLECT_ENTRIES_MAX: Final = 256
"""Keys that one message about collection may name."""
COLLECT_BATCH_ENTRIES: Final = 64
"""Keys that this node names in one: each replica reads as many records in one turn of the loop."""
COLLECT_BATCHES_PROVEN_MAX: Final = 256
"""Batches whose proof is there and whose quiet time is not over; at this the sweep waits."""
COLLECT_ATTEMPTS_MAX: Final = 3
OFFER_ENTRIES_MAX: Final = 256
"""Records that a node which keeps them no more asks about at once."""
COLLECT_TIMEOUT_MS: Final = 10_000
COLLECT_QUIET_MS: Final = 2 * REQUEST_TIMEOUT_MAX_MS + 60_000
"""Between the proof and the removal: longer than any message that carries a record may be under way. A read repair may
be decided when its read's time is over, and then has as long again."""
SWEEP_INTERVAL_MIN_MS: Final = 60_000
SWEEP_PAUSE_MS: Final = 50.0
"""Between two chunks of a sweep, which makes it slow even where nothing else is going on."""

# Staleness (docs/consistency.md).
STALENESS_GENERATION_MS: Final = 60_000
"""Figures are of the requests of the last one or two of these."""
STALENESS_SAMPLES_MIN: Final = 1_000
"""Acknowledgements by other replicas that must have been measured before anything is said."""
STALENESS_PEER_SAMPLES_MIN: Final = 100
"""Measurements with one peer above which its link is judged by itself."""
STALENESS_TRIALS: Final = 10_000
STALENESS_SLICE_REPLICAS: Final = 150
"""Trials times replicas in one turn of the loop: about a millisecond."""
STALENESS_SLICE_PAUSE_MS: Final = 5
STALENESS_COMMITS: Final = 32
"""Local commits that are timed for one computation."""
STALENESS_GROUPS_MAX: Final = 32
"""Sets of replicas that one computation draws from."""
STALENESS_KEPT_MS: Final = 10_000
"""A computation is shown for so long before it is made anew."""
STALENESS_WAITING_MAX: Final = 1_024
"""Questions that wait for one computation."""

# Time.
GRACE_DEFAULT_MS: Final = 24 * 3_600_000
CLOCK_SKEW_MAX_MS: Final = 60_000

# The ring.
SLOTS: Final = 16_384
PARTITIONS_DEFAULT: Final = 1_024
MEMBERS_MAX: Final = 1_024
WORKERS_MAX: Final = 64
"""Processes of one host. Not more than candidates that a node remembers: the workers of a host join by one plan."""
MEMBER_WEIGHT_MAX: Final = 1_000
MEMBER_TEXT_CHARACTERS_MAX: Final = 260
"""Of each text that a node says about itself: its name, its host, an address."""
REPLICAS_MAX: Final = 16

assert KEY_BYTES_MAX + VALUE_BYTES_MAX_DEFAULT < COMMAND_BYTES_MAX <= FRAME_BYTES_MAX
assert (CONTEXT_ENTRIES_MAX * 18 + 32) * 4 < CONTEXT_TOKEN_BYTES_MAX * 3
assert INLINE_COMMAND_BYTES_MAX <= UNAUTHENTICATED_BYTES_MAX < COMMAND_BYTES_MAX <= CLIENT_HELD_BYTES_MAX
assert CLIENT_SWEEP_INTERVAL_MS < AUTHENTICATION_TIMEOUT_MS < COMMAND_TIMEOUT_MS < CLIENT_IDLE_TIMEOUT_MS
assert CONTEXT_TOKEN_BYTES_MAX < HTTP_FIELD_BYTES_MAX < HTTP_HEAD_BYTES_MAX > HTTP_LINE_BYTES_MAX
assert HTTP_DOCUMENT_BYTES_MAX < HTTP_HELD_BYTES_MAX and VALUE_BYTES_MAX_DEFAULT < HTTP_HELD_BYTES_MAX
assert HANDSHAKE_FRAME_BYTES_MAX <= UNAUTHENTICATED_BYTES_MAX
assert CLIENT_OUTPUT_BYTES_LOW < CLIENT_OUTPUT_BYTES_HIGH
assert PEER_PING_INTERVAL_MS * 2 < PEER_SILENCE_TIMEOUT_MS
assert FRAME_BYTES_MAX < PEER_OUTPUT_BYTES_MAX
assert RECONNECT_DELAY_MIN_MS < RECONNECT_DELAY_MAX_MS < PEER_DIAL_BACK_INTERVAL_MS
assert REQUEST_TIMEOUT_DEFAULT_MS <= REQUEST_TIMEOUT_MAX_MS
assert CALLS_IN_FLIGHT_MAX <= PIPELINE_COMMANDS_MAX
assert EXCHANGE_KEYS_MAX * (KEY_BYTES_MAX + BUCKET_NAME_BYTES_MAX + 32) + EXCHANGE_BYTES_MAX < FRAME_BYTES_MAX
assert COLLECT_BATCH_ENTRIES <= COLLECT_ENTRIES_MAX
assert 2 * EXCHANGE_RECORDS_HELD_MAX_MS < COLLECT_QUIET_MS
assert 2 * REQUEST_TIMEOUT_MAX_MS < COLLECT_QUIET_MS < GRACE_DEFAULT_MS // 8
assert STALENESS_PEER_SAMPLES_MIN <= STALENESS_SAMPLES_MIN and STALENESS_KEPT_MS < STALENESS_GENERATION_MS
assert STALENESS_SLICE_REPLICAS >= REPLICAS_MAX
assert SLOTS & (SLOTS - 1) == 0 and PARTITIONS_DEFAULT <= SLOTS
