"""Commands of Redis that Quorate does not have, and what to say instead of "unknown command".

A store that stays writable through partitions cannot promise what many of them promise; the reply says which promise
it is, so that nobody has to look it up.
"""

from __future__ import annotations

from quorate.api.resp import replies

_GROUPS: dict[str, str] = {
    "there are no transactions; send the commands one by one, or use KV.PUT with CTX to notice concurrent writes": (
        "MULTI EXEC DISCARD WATCH UNWATCH"
    ),
    "there are no scripts or functions": ("EVAL EVALSHA EVAL_RO EVALSHA_RO SCRIPT FUNCTION FCALL FCALL_RO"),
    "nothing blocks here; poll the key instead": (
        "BLPOP BRPOP BRPOPLPUSH BLMOVE BLMPOP BZPOPMIN BZPOPMAX BZMPOP WAIT WAITAOF"
    ),
    "there is no publish and subscribe": (
        "SUBSCRIBE UNSUBSCRIBE PSUBSCRIBE PUNSUBSCRIBE PUBLISH PUBSUB SSUBSCRIBE SUNSUBSCRIBE SPUBLISH"
    ),
    "concurrent writers would both be told that they won; use KV.PUT with CTX, and KV.GET to see siblings": (
        "SETNX MSETNX MSETEX RENAMENX COPY RENAME MOVE DELEX"
    ),
    "concurrent changes to a value would be lost; KV.GET it, change it, and KV.PUT it with its CTX": (
        "INCR DECR INCRBY DECRBY INCRBYFLOAT APPEND SETRANGE SETBIT BITOP BITFIELD"
    ),
    "values are opaque bytes; GET the whole value": "GETRANGE SUBSTR GETBIT BITCOUNT BITPOS BITFIELD_RO LCS DIGEST",
    "use GET and EXPIRE": "GETEX TOUCH",
    "listing all keys at once would hold up the node; use SCAN or KV.KEYS": "KEYS DBSIZE RANDOMKEY",
    "there is no way to drop everything by one command; delete the keys, or create the cluster anew": (
        "FLUSHALL FLUSHDB SWAPDB"
    ),
    "there are no lists; keep a JSON array as the value": (
        "LPUSH RPUSH LPUSHX RPUSHX LPOP RPOP LLEN LRANGE LINDEX LINSERT LSET LREM LTRIM LPOS LMOVE LMPOP "
        "RPOPLPUSH SORT SORT_RO"
    ),
    "there are no hashes; keep a JSON object as the value, or one key a field": (
        "HSET HGET HDEL HGETALL HMSET HMGET HKEYS HVALS HLEN HEXISTS HINCRBY HINCRBYFLOAT HSETNX HSTRLEN HSCAN "
        "HRANDFIELD HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT HTTL HPTTL HPERSIST HEXPIRETIME HPEXPIRETIME "
        "HGETDEL HGETEX HSETEX"
    ),
    "there are no sets; keep a JSON array as the value": (
        "SADD SREM SMEMBERS SISMEMBER SMISMEMBER SCARD SPOP SRANDMEMBER SMOVE SSCAN SINTER SINTERCARD SINTERSTORE "
        "SUNION SUNIONSTORE SDIFF SDIFFSTORE"
    ),
    "there are no sorted sets": (
        "ZADD ZREM ZSCORE ZMSCORE ZRANK ZREVRANK ZRANGE ZREVRANGE ZRANGEBYSCORE ZREVRANGEBYSCORE ZRANGEBYLEX "
        "ZREVRANGEBYLEX ZRANGESTORE ZCARD ZCOUNT ZLEXCOUNT ZINCRBY ZPOPMIN ZPOPMAX ZMPOP ZRANDMEMBER ZSCAN ZUNION "
        "ZUNIONSTORE ZINTER ZINTERCARD ZINTERSTORE ZDIFF ZDIFFSTORE ZREMRANGEBYRANK ZREMRANGEBYSCORE ZREMRANGEBYLEX"
    ),
    "there are no streams": (
        "XADD XDEL XLEN XRANGE XREVRANGE XREAD XREADGROUP XACK XGROUP XINFO XPENDING XCLAIM XAUTOCLAIM XTRIM XSETID"
    ),
    "there are no sketches or places": (
        "PFADD PFCOUNT PFMERGE PFDEBUG PFSELFTEST GEOADD GEODIST GEOHASH GEOPOS GEOSEARCH GEOSEARCHSTORE GEORADIUS "
        "GEORADIUS_RO GEORADIUSBYMEMBER GEORADIUSBYMEMBER_RO"
    ),
    "a node is managed by the command quorate": (
        "SHUTDOWN SAVE BGSAVE BGREWRITEAOF LASTSAVE REPLICAOF SLAVEOF SYNC PSYNC REPLCONF ROLE FAILOVER MODULE ACL "
        "LATENCY MEMORY SLOWLOG MONITOR DEBUG OBJECT LOLWUT DUMP RESTORE RESTORE-ASKING MIGRATE"
    ),
}
REASONS = {name.encode(): reason for reason, names in _GROUPS.items() for name in names.split()}

_NAME_BYTES_SHOWN = 64


def refusal(name: bytes) -> bytes:
    """The error reply to a command that there is not."""
    shown = name[:_NAME_BYTES_SHOWN].decode("latin-1")
    reason = REASONS.get(name.upper())
    if reason is None:
        return replies.error("ERR", f"unknown command '{shown}'; COMMAND LIST shows what there is")
    return replies.error("ERR", f"'{shown}' is not supported: {reason}")
