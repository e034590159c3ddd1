"""Channel arguments of both sides, which have to agree with each other.

A client pings after 10 s without traffic, streams or not, and gives up 10 s later; the server does
the same, and permits pings every 5 s (its default takes them for abuse below 5 minutes, and
closes). So both notice a black-holed connection within 20 s. See gRPC's doc/keepalive.md.
"""

from __future__ import annotations

from services.common.sizes import MESSAGE_BYTES

KEEPALIVE_MS = 10_000
KEEPALIVE_TIMEOUT_MS = 10_000
MIN_PING_INTERVAL_MS = 5_000
MAX_RECONNECT_MS = 5_000
"""A restarted service has its agents back within seconds; gRPC's default is two minutes."""

_COMMON: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    # Only one ping may be outstanding: when it is gRPC's own bandwidth probe, this counts instead
    # of the keepalive's timeout, and its default is a minute.
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
)

SERVER_OPTIONS = (
    *_COMMON,
    ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_MS),
    ("grpc.so_reuseport", 0),  # else two processes on one port share its calls, silently
)
CLIENT_OPTIONS = (
    *_COMMON,
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),  # this is also how long a connect may take
    ("grpc.max_reconnect_backoff_ms", MAX_RECONNECT_MS),
)
