# SPDX-License-Identifier: MIT OR GPL-2.0
"""A small web service with a leak, as they are found: sessions that nothing ever forgets.

    service.py            serves on a free port of the loopback and prints it
    service.py --load N   sends requests to port N, as a few clients would, until it is killed
"""

import http.client
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CATALOGUE = [{"id": n, "name": f"article {n}", "price": n * 0.5} for n in range(200)]


class Sessions:
    """Who was here, and what they looked at. Visitors without a cookie get a new session."""

    def __init__(self):
        self.by_token = {}

    def remember(self, token, path, agent):
        session = self.by_token.setdefault(token, {"path": path, "agent": agent, "seen": [path]})
        return session


class Shop(BaseHTTPRequestHandler):
    sessions = Sessions()
    visits = 0
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        Shop.visits += 1
        token = self.headers.get("Cookie") or f"visitor-{Shop.visits}"
        self.sessions.remember(token, self.path, self.headers["User-Agent"])
        self.answer(self.search(self.path.rsplit("/", 1)[-1]))

    def search(self, word):
        found = [article for article in CATALOGUE if word in article["name"]]
        return sorted(found, key=lambda article: article["price"])[:20]

    def answer(self, found):
        body = json.dumps({"articles": found, "count": len(found)}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def load(port):
    client = http.client.HTTPConnection("127.0.0.1", port)
    n = 0
    while True:
        client.request("GET", f"/search/{n % 100}", headers={"User-Agent": f"browser {n % 7}.0"})
        json.loads(client.getresponse().read())
        n += 1
        time.sleep(0.005)


def main():
    if "--load" in sys.argv:
        load(int(sys.argv[2]))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
