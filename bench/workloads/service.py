# SPDX-License-Identifier: MIT OR GPL-2.0
"""A service that works as fast as it can, with or without leaks.

    service.py json|numpy|echo|sqlite [LEAKS]       LEAKS: leaks.py

Says twice a second {"requests": N, "cpu": seconds, "leaked": {SHAPE: calls}}; ends with its input.
The Flask service is flask_app.py, below gunicorn.
"""

import asyncio
import json
import os
import select
import sqlite3
import subprocess
import sys
import time
import tracemalloc

import handler
from leaks import Leaks

REPORT_SECONDS = 0.5
SILENT_SECONDS = 0.02  # so often is the clock asked in the loops
CLIENTS, BATCH = 4, 16
WARM_UP_SECONDS = 2  # before the first snapshot


class Snapshots:
    """What tracemalloc's user does: compares with a first snapshot; says what grew most."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.started = time.monotonic()
        self.next = self.started + WARM_UP_SECONDS
        self.first = None

    def tick(self):
        if not self.seconds or time.monotonic() < self.next:
            return
        began = time.monotonic()
        # As its manual has it: without its own and the importer's.
        snapshot = tracemalloc.take_snapshot().filter_traces([
            tracemalloc.Filter(False, "<frozen importlib._bootstrap*"),
            tracemalloc.Filter(False, tracemalloc.__file__)])
        if self.first:
            top = max(snapshot.compare_to(self.first, "lineno"),
                      key=lambda difference: difference.size_diff)
            frame = top.traceback[0]
            print(json.dumps({"top": [frame.filename, frame.lineno], "bytes": top.size_diff,
                              "at": began - self.started,
                              "took": time.monotonic() - began}), flush=True)
        else:
            self.first = snapshot
        self.next = time.monotonic() + self.seconds


class Progress:
    def __init__(self):
        self.requests = 0
        self.next = time.monotonic() + REPORT_SECONDS
        self.leaks = Leaks(sys.argv[2] if len(sys.argv) > 2 else "")
        self.snapshots = Snapshots(float(os.environ.get("BENCH_SNAPSHOT_SECONDS", "0")))

    def done(self, count):
        """So many requests are done. False when the other side is gone."""
        self.requests += count
        self.leaks.tick()
        if time.monotonic() < self.next:
            return True
        self.next = time.monotonic() + REPORT_SECONDS
        print(json.dumps({"requests": self.requests, "cpu": time.process_time(),
                          "leaked": self.leaks.calls()}), flush=True)
        self.snapshots.tick()
        return not (select.select([0], [], [], 0)[0] and not os.read(0, 100))


# --- JSON ---

def serve_json(progress):
    while progress.done(10):
        for _ in range(10):
            handler.handle(handler.BODY)


# --- numpy and pandas, where the machine has it ---

def serve_numpy(progress):
    import numpy
    try:
        import pandas
    except ImportError:
        pandas = None
    values = numpy.arange(3000, dtype=float)
    groups = numpy.arange(3000) % 17
    while progress.done(1):
        scaled = (values * 1.01 + numpy.sin(values)).reshape(-1, 3)
        scaled.mean(axis=0), numpy.sort(scaled[:, 0])
        if pandas:
            frame = pandas.DataFrame({"group": groups, "value": scaled.ravel()})
            frame[frame.value > 10].groupby("group").value.agg(["mean", "max"])


# --- sqlite ---

class Row:
    def __init__(self, number, name, price):
        self.number, self.name, self.price = number, name, price


def serve_sqlite(progress):
    database = sqlite3.connect(":memory:")
    database.execute("create table item (number integer primary key, name text, price real)")
    database.executemany("insert into item values (?, ?, ?)",
                         [(n, "item %d" % n, n * 1.25) for n in range(2000)])
    first = 0
    while progress.done(1):
        first = (first + 37) % 1900
        rows = [Row(*row) for row in database.execute(
            "select number, name, price from item where number between ? and ?",
            (first, first + 50))]
        database.execute("update item set price = ? where number = ?",
                         (sum(row.price for row in rows) / len(rows), first))
        database.commit()


# --- an echo server, its clients in another process ---

def echo_client(port):
    """Few connections, a batch of lines in flight on each; ends with the server."""
    import socket
    batch = b"".join(b"line %d of a batch that comes back\n" % n for n in range(BATCH))
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(CLIENTS)]
    for connection in connections:
        connection.sendall(batch)
    missing = dict.fromkeys(connections, len(batch))
    while True:
        for connection in select.select(connections, [], [])[0]:
            received = len(connection.recv(65536))
            if not received:
                return
            missing[connection] -= received
            if not missing[connection]:
                missing[connection] = len(batch)
                connection.sendall(batch)


async def serve_connections(progress):
    over = asyncio.Event()

    async def echo(reader, writer):
        while not over.is_set():
            line = await reader.readline()
            if not line:
                break
            words = line.decode().split()
            writer.write((" ".join(words) + "\n").encode())
            await writer.drain()
            if not progress.done(1):
                over.set()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = subprocess.Popen([sys.executable, __file__, "client", str(port)],
                              stdin=subprocess.DEVNULL)
    try:
        await over.wait()
    finally:
        client.kill()
        client.wait()


def serve_echo(progress):
    asyncio.run(serve_connections(progress))


def main():
    if sys.argv[1] == "client":
        try:
            echo_client(int(sys.argv[2]))
        except ConnectionError:
            pass
        return
    print(json.dumps({"ready": True, "pid": os.getpid()}), flush=True)
    {"json": serve_json, "numpy": serve_numpy, "sqlite": serve_sqlite,
     "echo": serve_echo}[sys.argv[1]](Progress())


main()
