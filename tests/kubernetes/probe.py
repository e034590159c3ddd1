#!/usr/bin/python3
"""Serves and asks over TCP and UDP, and asks the Kubernetes API; in pods, and in any namespace.

probe serve [tcp/PORT | udp/PORT | http/PORT | echo/PORT]...
    answers every message with "HOSTNAME CALLER'S-ADDRESS"; http: GET /healthz, too; echo: every UDP
    message with itself
probe ask tcp|udp|connect ADDRESS PORT [--count N] [--timeout SECONDS]
    prints what answers, or "timeout", "refused", "unreachable"; exit status 0 or 1.
    connect: TCP, without waiting for an answer
probe until tcp ADDRESS PORT --timeout SECONDS
    asks every 20 ms until something answers, and prints after how many milliseconds
probe api PATH
    GET of the API server with this pod's ServiceAccount: status and the start of the body
"""

import argparse
import errno
import http.client
import os
import socket
import ssl
import sys
import threading
import time
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
WORDS = {
    errno.ECONNREFUSED: "refused",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "no route",
}
PAUSE = 0.02


def answer(connection: socket.socket, caller: str, *, as_http: bool) -> None:
    text = f"{socket.gethostname()} {caller}\n"
    if as_http:
        text = f"HTTP/1.0 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}"
    with connection:
        try:
            while connection.recv(4096):
                connection.sendall(text.encode())
                if as_http:
                    return
        except OSError:
            pass


def serve_tcp(port: int, *, as_http: bool) -> None:
    listener = socket.create_server(
        ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=256
    )
    while True:
        connection, (caller, *_) = listener.accept()
        threading.Thread(
            target=answer,
            args=(connection, caller.removeprefix("::ffff:")),
            kwargs={"as_http": as_http},
            daemon=True,
        ).start()


def serve_udp(port: int, *, as_echo: bool) -> None:
    name = socket.gethostname()
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.bind(("::", port))
        while True:
            text, caller = server.recvfrom(4096)
            if not as_echo:
                text = f"{name} {caller[0].removeprefix('::ffff:')}\n".encode()
            server.sendto(text, caller)


def serve(what: list[str]) -> None:
    for item in what:
        kind, _, port = item.partition("/")
        if kind in {"udp", "echo"}:
            thread = threading.Thread(
                target=serve_udp, args=(int(port),), kwargs={"as_echo": kind == "echo"}
            )
        else:
            thread = threading.Thread(
                target=serve_tcp, args=(int(port),), kwargs={"as_http": kind == "http"}
            )
        thread.start()
    print("serving", *what, flush=True)


def ask(kind: str, address: str, port: int, timeout: float) -> tuple[bool, str]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(
        family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
    ) as client:
        client.settimeout(timeout)
        try:
            client.connect((address, port))
            if kind == "connect":
                return True, f"connected from {client.getsockname()[0]}"
            client.sendall(b"?")
            return True, client.recv(4096).decode().strip()
        except TimeoutError:
            return False, "timeout"
        except OSError as error:
            return False, WORDS.get(error.errno or 0, str(error))


def until(kind: str, address: str, port: int, timeout: float) -> tuple[bool, str]:
    begun = time.monotonic()
    said = "nothing"
    while time.monotonic() - begun < timeout:
        done, said = ask(kind, address, port, PAUSE * 10)
        if done:
            return True, said
        time.sleep(PAUSE)
    return False, said


def api(path: str) -> tuple[bool, str]:
    server = http.client.HTTPSConnection(
        os.environ["KUBERNETES_SERVICE_HOST"],
        int(os.environ["KUBERNETES_SERVICE_PORT"]),
        timeout=5,
        context=ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt")),
    )
    token = (ACCOUNT / "token").read_text("ascii")
    server.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    answer = server.getresponse()
    return answer.status == http.client.OK, f"{answer.status} {answer.read(300).decode()}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    serving = verbs.add_parser("serve")
    serving.add_argument("what", nargs="*", default=["tcp/80", "udp/53", "http/8080", "echo/7"])
    for verb in ("ask", "until"):
        asking = verbs.add_parser(verb)
        asking.add_argument("kind", choices=["tcp", "udp", "connect"])
        asking.add_argument("address")
        asking.add_argument("port", type=int)
        asking.add_argument("--count", type=int, default=1)
        asking.add_argument("--timeout", type=float, default=2.0)
    verbs.add_parser("api").add_argument("path")
    args = parser.parse_args()
    if args.verb == "serve":
        serve(args.what)
        return 0
    good = True
    for _ in range(getattr(args, "count", 1)):
        begun = time.monotonic()
        try:
            if args.verb == "api":
                fine, said = api(args.path)
            else:
                call = ask if args.verb == "ask" else until
                fine, said = call(args.kind, args.address, args.port, args.timeout)
        except OSError as error:
            fine, said = False, str(error)
        print(f"{said}  ({(time.monotonic() - begun) * 1000:.1f} ms)", flush=True)
        good = good and fine
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
