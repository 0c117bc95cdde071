#!/usr/bin/python3 -IS
"""May this balancer hold the virtual address? Arguments: its own URL, then the same path on the others.

Yes when its own answers 200. A 503 means that it serves and has no engine: then the address moves only to a balancer
that has one, because where all are without, an answer that says so is better than none. Standard library only.
"""

import http.client
import ssl
import sys
from urllib.parse import urlsplit


def status_of(url: str, seconds: float) -> int:
    """0: no answer."""
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        # Asked by address on the own node: whether it serves is the question, not who it is.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=seconds, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=seconds)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def main() -> int:
    own, *others = sys.argv[1:]
    status = status_of(own, 1.0)
    if status == 200:
        return 0
    if status == 503 and not any(status_of(url, 0.5) == 200 for url in others):
        return 0
    print(f"{own}: {status or 'no answer'}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
