"""The details are those that gRPC gave for each case."""

from __future__ import annotations

import pytest

from services.common.rpc.connecting import cause_of, in_words

CHAIN = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:9610: "
HANDSHAKE = CHAIN + "Tls handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: "


@pytest.mark.parametrize(
    ("details", "tls", "text", "hint"),
    [
        (
            HANDSHAKE + "error:1000007d:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: "
            "unable to get local issuer certificate: OK",
            True,
            "its certificate is not trusted (unable to get local issuer certificate)",
            "--tls-ca",
        ),
        (
            HANDSHAKE + "error:100000f7:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER: "
            "Invalid certificate verification context: OK",
            True,
            "it does not speak TLS",
            "in the clear",
        ),
        (
            CHAIN + "Custom verification check failed with error: UNAUTHENTICATED: "
            "Hostname Verification Check failed.",
            True,
            "its certificate is for another address",
            "subjectAltName",
        ),
        (
            CHAIN + "Failed parsing HTTP/2 (Expected SETTINGS frame as the first frame, got frame "
            "type 80) (Trying to connect an http1.x server (HTTP status 404))",
            False,
            "it does not speak gRPC",
            "metrics",
        ),
        (
            CHAIN + "connection attempt timed out before receiving SETTINGS frame",
            False,
            "it takes the connection and says nothing",
            "hangs",
        ),
        (CHAIN + "Socket closed", True, "it closes the connection", "--tls-cert"),
        (CHAIN + "Socket closed", False, "it closes the connection", "is served with TLS"),
        (CHAIN + "Connection reset by peer", False, "it closes the connection", "--tls-ca"),
        (
            CHAIN + "Failed to connect to remote host: Connection refused",
            True,
            "Connection refused",
            "",
        ),
        ("", False, "", ""),
    ],
)
def test_what_grpc_says_is_put_into_words(
    details: str,
    tls: bool,  # noqa: FBT001 - a parameter of the test
    text: str,
    hint: str,
) -> None:
    cause = cause_of(details, tls=tls)
    assert cause.text == text
    assert hint in cause.hint
    assert bool(hint) == bool(cause.hint)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (CHAIN + "Failed to connect to remote host: Connection refused", "Connection refused"),
        (
            CHAIN + "connection attempt timed out before receiving SETTINGS frame",
            "it takes the connection and says nothing",
        ),
        ("Socket closed", "it closes the connection"),
        ("Deadline Exceeded", "it did not answer in time"),
        ("there is no node 'a': look again", "there is no node 'a': look again"),
        ("", ""),
    ],
)
def test_only_what_grpc_says_is_said_in_other_words(message: str, words: str) -> None:
    assert in_words(message) == words
