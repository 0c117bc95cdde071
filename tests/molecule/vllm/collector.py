"""A stand-in for a collector of traces beside the engine: what reaches it when requests carry a recorded trace, another, or none.

collector.py PORT KEY MODEL. Prints which of the three were sent to it. Ends within half a minute, whatever happens.
"""

import http.client
import http.server
import json
import sys
import threading
import time

LIMIT_SECONDS = 25
TRACES = {
    "recorded": ("4bf92f3577b34da6a3ce929d0e0e4736", "01"),
    "unrecorded": ("5cf92f3577b34da6a3ce929d0e0e4737", "00"),
}
received = []


class Collector(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        received.append((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def ask(port, key, model, headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = json.dumps({"model": model, "prompt": "Hello", "max_tokens": 2})
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **headers}
    connection.request("POST", "/v1/completions", body, headers)
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        sys.exit(f"the engine answers {answer.status}")


def main():
    port, key, model = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 4318), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ask(port, key, model, {})
    for trace, flags in TRACES.values():
        ask(port, key, model, {"traceparent": f"00-{trace}-00f067aa0ba902b7-{flags}"})
    # Engines send in batches, every five seconds; the recorded one came last but one, so the others would be in by then.
    ends = time.monotonic() + LIMIT_SECONDS
    wanted = bytes.fromhex(TRACES["recorded"][0])
    while not any(wanted in body for _, body in received) and time.monotonic() < ends:
        time.sleep(0.1)
    time.sleep(6)
    everything = b"".join(body for path, body in received if path == "/v1/traces")
    print(" ".join(name for name, (trace, _) in TRACES.items() if bytes.fromhex(trace) in everything) or "nothing")
    print(f"{everything.count(b'llm_request')} spans of requests")
    print(" ".join(sorted(word for word in ("unit-test", "mol") if word.encode() in everything)))


main()
