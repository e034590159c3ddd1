"""Calls the API server, and says when it answered: a line of JSON in, a line out.

python -m tests.kubernetes.api_calls KUBECONFIG
{"method", "path", "body", "type"} gives {"status", "body", "at"}; `at` is on the monotonic clock,
which all processes of a machine have in common.
"""

from __future__ import annotations

import json
import ssl
import sys
import time
from http.client import HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_text())
    cluster = config["clusters"][0]["cluster"]
    token = config["users"][0]["user"]["token"]
    where = urlsplit(cluster["server"])
    context = ssl.create_default_context(cafile=cluster["certificate-authority"])
    connection = HTTPSConnection(where.hostname or "", where.port, timeout=30, context=context)
    for line in sys.stdin:
        asked = json.loads(line)
        head = {
            "Authorization": f"Bearer {token}",
            "Content-Type": asked.get("type", "application/json"),
        }
        body = json.dumps(asked["body"]) if "body" in asked else None
        connection.request(asked["method"], asked["path"], body, head)
        answer = connection.getresponse()
        at = time.monotonic()
        said = {"status": answer.status, "body": json.loads(answer.read()), "at": at}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
