# SPDX-License-Identifier: MIT OR GPL-2.0
"""The daemon: found, watched, sampled, scraped by a real Prometheus; and its end."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

import pytest

import support
from support import TARGETS

pytestmark = pytest.mark.needs("pyleakd", "root", "btf", "stock-3.11")


def fetch(port, path, method="GET", timeout=60):
    """(status, text, headers)"""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


def eventually(condition, timeout=60, what=""):
    """The first true result; a daemon's stages take their time, so this waits generously."""
    end = time.monotonic() + timeout
    while not (result := condition()):
        assert time.monotonic() < end, f"never: {what or condition.__name__}"
        time.sleep(0.2)
    return result


class Daemon:
    def __init__(self, directory, lines="", prefix=()):
        self.mark = "t" + uuid.uuid4().hex[:8]
        self.directory = directory
        self.config = directory / "pyleakd.conf"
        # Only the test's own targets: the host has other Pythons.
        self.lines = (f"listen = 127.0.0.1:0\ninclude = {self.mark}*\ninterval = 500ms\n"
                      f"scan-interval = 300ms\n{lines}")
        self.config.write_text(self.lines)
        self.errors = open(directory / "errors", "w+")
        env = support.environment(PYLEAKD_CACHE_DIRECTORY=str(directory / "cache"))
        self.told = []
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(directory / "notify"))
        threading.Thread(target=self.hear, daemon=True).start()  # the queue is short
        env.update(NOTIFY_SOCKET=str(directory / "notify"), WATCHDOG_USEC="2000000")
        self.process = support.start([*prefix, support.PYLEAKD, "--config", self.config], env=env,
                                     stdin=subprocess.DEVNULL, stderr=self.errors)
        # The kernel's choice of a port stands in the first line.
        self.port = int(eventually(
            lambda: re.search(r"listening at 127.0.0.1 port (\d+)", self.said()),
            what=self.said()).group(1))

    def said(self):
        return (self.directory / "errors").read_text()

    def hear(self):
        """What systemd would have been told, a dictionary a message, into told."""
        with contextlib.suppress(OSError):
            while text := self.notify.recv(65536).decode():
                self.told.append(dict(line.split("=", 1) for line in text.splitlines()))

    def targets(self):
        return {row["pid"]: row for row in json.loads(fetch(self.port, "/api/v1/targets")[1])}

    def series(self, name, **labels):
        """[(labels, value)] of /metrics."""
        found = []
        for line in fetch(self.port, "/metrics")[1].splitlines():
            match = re.fullmatch(r"([a-z_]+)(?:\{(.*)\})? (\S+)", line)
            if not match or match.group(1) != name:
                continue
            of = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match.group(2) or ""))
            if all(of.get(key) == str(value) for key, value in labels.items()):
                found.append((of, float(match.group(3))))
        return found

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(timeout=30)


@contextlib.contextmanager
def daemon(directory, lines="", **options):
    running = Daemon(directory, lines, **options)
    try:
        yield running
    finally:
        support.stop(running.process)
        running.errors.close()
        with contextlib.suppress(OSError):
            running.notify.shutdown(socket.SHUT_RDWR)
        running.notify.close()


def file_for(running, name):
    """daemon_pair.py under a name that the daemon's include has: its directory, and that name."""
    place = running.directory / "targets"
    place.mkdir(exist_ok=True)
    file = f"{running.mark}{name}.py"
    shutil.copy(TARGETS / "daemon_pair.py", place / file)
    return place, file


@contextlib.contextmanager
def target(stock, running, kind, name=""):
    place, file = file_for(running, name or kind)
    with support.Program(stock, place, file, kind) as program:
        program.expect("ready")
        yield program


def site_leaks(running, pid):
    return [labels for labels, value in running.series("pyleakd_site_leak", pid=pid) if value == 1]


@pytest.mark.needs("uprobe-multi", "prometheus")
def test_prometheus_is_told_which_of_two_processes_leaks(tmp_path, stock):
    with daemon(tmp_path) as running, target(stock, running, "leak") as leaking, \
            target(stock, running, "stable") as stable, prometheus(tmp_path, running.port) as ask:
        leak = eventually(lambda: ask(f'pyleakd_site_leak{{pid="{leaking.pid}"}} == 1'), 120)
        assert {row["metric"]["function"] for row in leak} == {"remember"}
        assert leak[0]["metric"]["file"].endswith("leak.py")
        assert int(leak[0]["metric"]["site"], 16) > 0
        assert ask(f'pyleakd_target_info{{pid="{leaking.pid}",python=~"3.11.*"}} == 1')
        # The stable one does the same work, and is not even probed.
        assert ask(f'pyleakd_target_leaks{{pid="{stable.pid}"}} == 0')
        assert not ask(f'pyleakd_site_leak{{pid="{stable.pid}"}} == 1')
        assert ask(f'pyleakd_target_state{{pid="{stable.pid}",state="watch"}} == 1')
        assert ask("process_resident_memory_bytes > 0") and ask("pyleakd_build_info == 1")
        assert ask("up == 1") and not ask("up == 0"), "a scrape that Prometheus refused"


@contextlib.contextmanager
def prometheus(directory, port):
    """A Prometheus that scrapes the port; yields its query."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        own = free.getsockname()[1]
    config = directory / "prometheus.yml"
    config.write_text(json.dumps({  # JSON is YAML
        "global": {"scrape_interval": "500ms"},
        "scrape_configs": [{"job_name": "pyleakd",
                            "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}]}))
    with open(directory / "prometheus.log", "w") as log:
        process = support.start(["prometheus", f"--config.file={config}",
                                 f"--storage.tsdb.path={directory / 'tsdb'}",
                                 f"--web.listen-address=127.0.0.1:{own}"], stdout=log, stderr=log)

        def ask(query):
            try:
                answer = fetch(own, "/api/v1/query?" + urllib.parse.urlencode({"query": query}))
            except urllib.error.URLError:
                assert process.poll() is None, (directory / "prometheus.log").read_text()
                return []
            assert answer[0] in (200, 503), answer
            return json.loads(answer[1])["data"]["result"] if answer[0] == 200 else []
        try:
            yield ask
        finally:
            support.stop(process)


@pytest.mark.needs("uprobe-multi")
def test_a_target_is_watched_then_sampled_then_watched_again(tmp_path, stock):
    with daemon(tmp_path, "calm = 2s\n") as running, target(stock, running, "leak") as leaking:
        eventually(lambda: leaking.pid in running.targets())
        eventually(lambda: running.targets()[leaking.pid]["state"] == "sampled")
        report = eventually(lambda: json.loads(
            fetch(running.port, f"/api/v1/targets/{leaking.pid}/report")[1]))
        assert report["schema"] == 1 and report["target"]["pid"] == leaking.pid
        # What stands still grows no more; stopped, it allocates nothing.
        os.kill(leaking.pid, signal.SIGSTOP)
        try:
            eventually(lambda: running.targets()[leaking.pid]["state"] == "watch", 120)
            assert support.text_differences(leaking.pid) == []
        finally:
            os.kill(leaking.pid, signal.SIGCONT)


def test_without_probes_a_growing_target_stays_watched_and_it_is_said_why(tmp_path, stock):
    with daemon(tmp_path, "no-probes = yes\n") as running, \
            target(stock, running, "leak") as leaking:
        def refused():
            row = running.targets().get(leaking.pid)
            return row and row["growing"] and row["reason"] and row
        row = eventually(refused)
        assert row["state"] == "watch" and "no-probes" in row["reason"], row
        assert support.text_differences(leaking.pid) == []
        assert running.series("pyleakd_target_growth_bytes_per_second", pid=leaking.pid)[0][1] > 0


def test_series_go_with_the_process(tmp_path, stock):
    with daemon(tmp_path, "no-probes = yes\n") as running:
        with target(stock, running, "stable") as first:
            eventually(lambda: running.series("pyleakd_target_resident_bytes", pid=first.pid))
        eventually(lambda: f'pid="{first.pid}"' not in fetch(running.port, "/metrics")[1])
        assert fetch(running.port, f"/api/v1/targets/{first.pid}/report")[0] == 404
        assert first.pid not in running.targets()
        # Its program is remembered.
        assert running.series("pyleakd_program_processes")[0][1] == 0


def test_pages_answer_get_and_head_and_nothing_else(tmp_path, stock):
    with daemon(tmp_path, "no-probes = yes\n") as running, \
            target(stock, running, "stable") as stable:
        port = running.port
        eventually(lambda: fetch(port, "/readyz")[0] == 200)
        status, text, headers = fetch(port, "/healthz")
        assert (status, text) == (200, "ok\n")
        status, text, headers = fetch(port, "/metrics")
        assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert text.endswith("\n") and "pyleakd_build_info" in text
        status, text, headers = fetch(port, "/metrics", "HEAD")
        assert status == 200 and text == "" and int(headers["Content-Length"]) > 0
        for path in ("/", "/metrics/", "/api", "/api/v1/targets/", "/api/v1/targets/1/report",
                     "/api/v1/targets/99999999999999999999/report", "/api/v1/targets/x/report",
                     f"/api/v1/targets/{stable.pid}", f"/api/v1/targets/{stable.pid}/report/",
                     "/debug/pprof/heap", "/../etc/passwd", "/%00"):
            assert fetch(port, path)[0] == 404, path
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            status, _, headers = fetch(port, "/metrics", method)
            assert status == 405 and headers["Allow"] == "GET, HEAD", method
        report = eventually(lambda: fetch(port, f"/api/v1/targets/{stable.pid}/report")[:2])
        eventually(lambda: fetch(port, f"/api/v1/targets/{stable.pid}/report")[0] == 200)
        report = json.loads(fetch(port, f"/api/v1/targets/{stable.pid}/report")[1])
        assert report["session"]["mode"] == "watch" and report["totals"]["python_live_bytes"] > 0


def test_clients_that_dawdle_or_talk_nonsense_do_not_stop_it(tmp_path):
    with daemon(tmp_path, "no-probes = yes\n") as running, contextlib.ExitStack() as stack:
        for text in [b"", b"GET /metrics HT", b"\0\xff" * 100, b"GET / HTTP/1.1\r\nX: " +
                     b"y" * 100000] + [b""] * 20:
            client = stack.enter_context(socket.create_connection(("127.0.0.1", running.port)))
            with contextlib.suppress(OSError):
                client.sendall(text)
        assert fetch(running.port, "/healthz")[0] == 200
        assert running.process.poll() is None


@pytest.mark.needs("uprobe-multi")
def test_it_ends_cleanly_in_the_midst_and_leaves_nothing(tmp_path, stock):
    with daemon(tmp_path) as running, target(stock, running, "leak") as leaking:
        eventually(lambda: running.targets().get(leaking.pid, {}).get("state") == "sampled")
        eventually(lambda: running.series("pyleakd_windows_total", pid=leaking.pid)[0][1] > 0)
        assert running.end() == 0
        assert leaking.process.poll() is None
        assert support.text_differences(leaking.pid) == []
        owned = [link for link in support.bpf_links().values()
                 if link.get("pid") == leaking.pid or running.process.pid in
                 {owner.get("pid") for owner in link.get("pids", [])}]
        assert owned == []


def test_systemd_is_told(tmp_path, stock):
    with daemon(tmp_path, "no-probes = yes\n") as running, target(stock, running, "stable"):
        eventually(lambda: any("READY" in words for words in running.told))
        eventually(lambda: any("WATCHDOG" in words for words in running.told))
        eventually(lambda: any(words.get("STATUS", "").startswith("1 Python")
                               for words in running.told))
        before = len(running.told)
        running.config.write_text(running.lines + "exclude = *\n")
        running.process.send_signal(signal.SIGHUP)
        eventually(lambda: any("RELOADING" in words for words in running.told[before:]))
        eventually(lambda: any("READY" in words for words in running.told[before:]))
        eventually(lambda: running.targets() == {})
        assert running.end() == 0
        eventually(lambda: any("STOPPING" in words for words in running.told))


def test_a_reload_of_what_is_wrong_leaves_the_old_configuration(tmp_path, stock):
    with daemon(tmp_path, "no-probes = yes\n") as running, \
            target(stock, running, "stable") as stable:
        eventually(lambda: stable.pid in running.targets())
        running.config.write_text("exclude = *\nnonsense\n")
        running.process.send_signal(signal.SIGHUP)
        eventually(lambda: "pyleakd.conf:2: 'nonsense' is not of the form" in running.said())
        time.sleep(1)  # several scans
        assert stable.pid in running.targets()


@pytest.mark.parametrize("text,says", [
    ("frobnicate = 1\n", "pyleakd.conf:1: unknown key 'frobnicate'"),
    ("# words\ninterval = soon\n", "pyleakd.conf:2: interval: 'soon' is not a time"),
    ("budget = 200\n", "pyleakd.conf:1: budget: '200' is not a percentage"),
    ("listen = 192.0.2.1:80\n", "192.0.2.1 port 80 can't be listened at"),
    (None, "pyleakd.conf: can't be read (No such file or directory)"),
])
def test_a_configuration_that_is_no_good_is_said_in_one_line(tmp_path, text, says):
    config = tmp_path / "pyleakd.conf"
    if text:
        config.write_text(text)
    result = support.pyleakd("--config", config)
    assert result.returncode == 1 and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and says in result.stderr, result.stderr


def test_a_port_that_is_taken_is_said(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (tmp_path / "pyleakd.conf").write_text(f"listen = 127.0.0.1:{port}\ninclude = none\n")
        result = support.pyleakd("--config", tmp_path / "pyleakd.conf")
    assert result.returncode == 1
    assert f"127.0.0.1 port {port} can't be listened at (Address already in use)" in result.stderr
    assert '"listen"' in result.stderr


def unit_capabilities():
    text = (support.ROOT / "deploy" / "pyleakd.service").read_text()
    names = re.search(r"^CapabilityBoundingSet=(.*)$", text, re.MULTILINE).group(1).split()
    return [name.removeprefix("CAP_").lower() for name in names]


def bounded(capabilities):
    """A command's beginning: root with nothing but these capabilities."""
    return ["setpriv", "--inh-caps=-all", "--no-new-privs",
            "--bounding-set=-all" + "".join(f",+{name}" for name in capabilities)]


@pytest.mark.needs("uprobe-multi", "setpriv")
def test_the_units_capabilities_are_enough(tmp_path, stock):
    with daemon(tmp_path, prefix=bounded(unit_capabilities())) as running, \
            target(stock, running, "leak") as leaking:
        eventually(lambda: running.targets().get(leaking.pid, {}).get("state") == "sampled")
        eventually(lambda: running.series("pyleakd_windows_total", pid=leaking.pid)[0][1] > 0)


@pytest.mark.needs("setpriv")
def test_where_probes_are_refused_a_growing_target_stays_watched_with_the_reason(tmp_path, stock):
    capabilities = [name for name in unit_capabilities() if name != "bpf"]
    with daemon(tmp_path, prefix=bounded(capabilities)) as running, \
            target(stock, running, "leak") as leaking:
        def refused():
            row = running.targets().get(leaking.pid, {})
            return row.get("growing") and row["reason"] and row
        row = eventually(refused)
        assert row["state"] == "watch" and "CAP_BPF" in row["reason"], row
        assert running.series("pyleakd_target_state", pid=leaking.pid, state="watch")


@pytest.mark.needs("uprobe-multi")
def test_a_programs_leak_is_found_though_its_workers_die(tmp_path, stock):
    """Each worker leaks, and lives for some twenty intervals only."""
    with daemon(tmp_path) as running:
        def leaks():
            return [labels for labels, value in running.series("pyleakd_program_site_leak")
                    if value == 1]
        pids = set()
        end = time.monotonic() + 240
        while not leaks() and time.monotonic() < end:
            with target(stock, running, "leak", "worker") as worker:
                pids.add(worker.pid)
                time.sleep(10)
        found = leaks()
        assert {labels["function"] for labels in found} == {"remember"}, found
        assert len(pids) > 1 and found[0]["command"].endswith("worker.py")
        # They are gone, the finding stays.
        eventually(lambda: running.targets() == {})
        assert leaks() == found


def gained(running):
    """What the program of a test's only target gained at the leaking line."""
    rows = [value for labels, value in running.series("pyleakd_program_site_gained_bytes")
            if labels["function"] == "remember"]
    return rows[0] if rows else 0


@pytest.mark.needs("uprobe-multi")
def test_what_leaked_since_the_last_account_is_not_lost_with_the_process(tmp_path, stock):
    """Accounts of a session that is half a minute old are seconds apart: it ends in between."""
    with daemon(tmp_path, "interval = 5s\n") as running, \
            target(stock, running, "leak") as leaking:
        def duration():
            return sampled_seconds(running, leaking.pid)
        at = eventually(lambda: (at := duration()) > 30 and at, 180, "a session of half a minute")
        eventually(lambda: duration() != at, what="another account")
        before = gained(running)
        assert before > 0
        time.sleep(2.5)
        os.kill(leaking.pid, signal.SIGKILL)
        eventually(lambda: running.targets() == {})
        # Some 1000 a second, each a dict and a string: by far more than a tenth of that.
        assert gained(running) - before > 100 * (sys.getsizeof({"a": 1, "b": 2}) + 100)


@pytest.mark.needs("uprobe-multi")
def test_one_that_does_not_grow_is_not_probed_for_its_programs_sake(tmp_path, stock):
    with daemon(tmp_path) as running, target(stock, running, "stable", "web") as stable, \
            target(stock, running, "leak", "web") as leaking:
        eventually(lambda: site_leaks(running, leaking.pid), 120)
        eventually(lambda: any(value == 1 for _, value
                               in running.series("pyleakd_program_site_leak")), 120)
        assert running.targets()[stable.pid]["state"] == "watch"
        assert running.series("pyleakd_windows_total", pid=stable.pid)[0][1] == 0
        assert support.text_differences(stable.pid) == []


@pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1 runs it")
@pytest.mark.needs("uprobe-multi")
def test_cpu_percent_bounds_what_is_sampled_and_the_status_says_so(tmp_path, stock):
    """Two daemons, a target each: the one with a hundredth of the share looks more rarely."""
    places = [tmp_path / "little", tmp_path / "plenty"]
    for place in places:
        place.mkdir()
    with daemon(places[0], "cpu-percent = 0.05\n") as little, \
            daemon(places[1], "cpu-percent = 100\n") as plenty, \
            target(stock, little, "leak") as first, target(stock, plenty, "leak") as second:
        eventually(lambda: running_paced(little, first.pid), 120)
        eventually(lambda: sampled_seconds(plenty, second.pid), 120)
        assert not running_paced(plenty, second.pid)
        few, many = set(), set()
        end = time.monotonic() + 20
        while time.monotonic() < end:
            few.add(sampled_seconds(little, first.pid))
            many.add(sampled_seconds(plenty, second.pid))
            time.sleep(0.2)
        assert len(few) < len(many) / 2, "accounts"
        # Not one too few is said, nor one too many.
        assert any("1 looked at more rarely" in words.get("STATUS", "") for words in little.told)
        assert not any("1 looked at" in words.get("STATUS", "") for words in plenty.told)


def sampled_seconds(running, pid):
    """How old a sampled session is as of its last account; 0: there is none."""
    status, text, _ = fetch(running.port, f"/api/v1/targets/{pid}/report")
    session = json.loads(text)["session"] if status == 200 else {"mode": ""}
    return session["duration_seconds"] if session["mode"] == "sampled" else 0


def running_paced(running, pid):
    return running.targets().get(pid, {}).get("paced") and \
        running.series("pyleakd_target_paced", pid=pid) == [({"pid": str(pid)}, 1.0)]


@pytest.mark.needs("uprobe-multi", "cgroup-memory")
def test_one_without_room_for_probes_is_shown_as_watched_with_the_reason(tmp_path, stock, cgroup):
    with daemon(tmp_path) as running:
        place, file = file_for(running, "slow")
        shell = f"echo $$ > {cgroup.path}/cgroup.procs; exec {stock.command[0]} {file} slow"
        process = support.start(["sh", "-c", shell], cwd=place, stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE)
        try:
            assert process.stdout.readline()
            cgroup.reclaim()
            cgroup.limit((cgroup.usage() + 1000 * 1024) // 4096 * 4096)

            def refused():
                row = running.targets().get(process.pid, {})
                return row.get("growing") and row["reason"] and row
            row = eventually(refused)
            assert row["state"] == "watch" and "memory" in row["reason"], row
            assert running.series("pyleakd_target_state", pid=process.pid, state="watch")
            assert running.series("pyleakd_target_refused", pid=process.pid, what="probes")
            line = f"process {process.pid} ({file}): probes refused: "
            assert running.said().count(line) == 1, running.said()
            report = json.loads(fetch(running.port, f"/api/v1/targets/{process.pid}/report")[1])
            assert report["refused"][0]["what"] == "probes"
            assert support.text_differences(process.pid) == []
            assert process.poll() is None, "the target was killed"
        finally:
            support.stop(process)


@pytest.mark.needs("uprobe-multi")
def test_no_more_are_sampled_than_may_be(tmp_path, stock):
    with daemon(tmp_path, "max-sampled = 1\n") as running, \
            target(stock, running, "leak", "one") as one, \
            target(stock, running, "leak", "two") as two:
        def both_grow():
            rows = [running.targets().get(pid, {}) for pid in (one.pid, two.pid)]
            return all(row.get("growing") for row in rows) and rows
        rows = eventually(both_grow)
        rows = eventually(lambda: sorted(row["state"] for row in both_grow() or [])
                          == ["sampled", "watch"] and both_grow())
        assert any("max-sampled" in row["reason"] for row in rows), rows


def test_children_are_targets_unless_subprocesses_is_no(tmp_path, stock):
    with daemon(tmp_path, "no-probes = yes\nsubprocesses = no\n") as running:
        place = tmp_path / "targets"
        place.mkdir()
        for name in ("parent", "child"):
            shutil.copy(TARGETS / "daemon_pair.py", place / f"{running.mark}{name}.py")
        child = place / f"{running.mark}child.py"
        (place / f"{running.mark}parent.py").write_text(
            "import subprocess, sys\n"
            f"child = subprocess.Popen([sys.executable, {str(child)!r}, 'stable'])\n"
            "print('{\"child\": %d}' % child.pid, flush=True)\n"
            "child.wait()\n")
        with support.Program(stock, place, f"{running.mark}parent.py") as parent:
            pid = parent.expect("child")["child"]
            eventually(lambda: parent.pid in running.targets())
            time.sleep(1)  # several scans
            assert pid not in running.targets()
            running.config.write_text(running.lines.replace("subprocesses = no", ""))
            running.process.send_signal(signal.SIGHUP)
            eventually(lambda: pid in running.targets())
            parent.process.stdin.close()
            parent.process.wait(timeout=20)
