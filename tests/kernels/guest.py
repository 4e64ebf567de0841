# SPDX-License-Identifier: MIT OR GPL-2.0
"""What is tried inside of the virtual machine; a line "RESULT name ok|FAILED: why" each."""

import json
import os
import signal
import subprocess
import sys
import time

PYLEAKD = "/usr/bin/pyleakd"
LEAKS = {"leak_in_main", "leak_in_thread"}
EVENTS = "/tracing/uprobe_events"


def expect(condition, why):
    if not condition:
        raise AssertionError(why)


def events():
    with open(EVENTS) as file:
        return [line for line in file if "pyleakd_" in line]


class Leaker:
    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, "/leaker.py"])
        time.sleep(3)
        return self.process

    def __exit__(self, *unused):
        self.process.kill()
        self.process.wait()


def session(mode, seconds):
    with Leaker() as target:
        result = subprocess.run(
            [PYLEAKD, "--pid", str(target.pid), "--mode", mode, "--duration", f"{seconds}s",
             "--interval", "2s", "--format", "json", "--output", "/tmp/report.json"],
            capture_output=True, text=True, timeout=seconds + 300)
        expect(target.poll() is None, f"the target died: {target.returncode}")
    expect(result.returncode == 0, f"exit {result.returncode}: {result.stderr[-800:]}")
    with open("/tmp/report.json") as file:
        report = json.load(file)
    for site in report["sites"][:5]:
        print("  ", site["verdict"], site.get("outstanding_bytes"),
              [frame["function"] for frame in site["stack"][:2]])
    return report


def named(report, verdicts):
    return {frame["function"].rsplit(".", 1)[-1] for site in report["sites"]
            if site["verdict"] in verdicts for frame in site["stack"][:1]}


def check(expected_method):
    result = subprocess.run([PYLEAKD, "check"], capture_output=True, text=True, timeout=300)
    print(result.stdout, result.stderr)
    if expected_method == "refused":
        expect(result.returncode == 1, f"exit {result.returncode}")
        return
    expect(result.returncode == 0, f"exit {result.returncode}")
    method = next(line for line in result.stdout.splitlines() if line.startswith("attach method"))
    expect(expected_method in method, method)


def exact(expected_method):
    report = session("exact", 24)
    if expected_method == "refused":  # it goes on without probes, and says so
        expect(report["session"]["mode"] == "watch", report["session"])
        return
    expect(LEAKS <= named(report, {"leak", "growing"}), "the leaks were not both named")
    coverage = report["coverage"] if "coverage" in report else report
    print("   coverage", json.dumps(coverage)[:200])


def sampled(expected_method):
    if expected_method == "refused":
        return
    report = session("sampled", 60)
    expect(LEAKS <= named(report, {"leak", "growing", "warming", "stable"}),
           "the leaking lines were not both seen")


def killed(expected_method):
    """Definitions of a pyleakd that was killed go with the next one's start; nothing is left."""
    if "tracefs" not in expected_method:
        return
    expect(not events(), f"left by the sessions before: {events()[:2]}")
    with Leaker() as target:
        process = subprocess.Popen([PYLEAKD, "--pid", str(target.pid), "--mode", "exact"],
                                   stdout=subprocess.DEVNULL)
        for _ in range(600):
            if len(events()) > 10:
                break
            time.sleep(0.1)
        expect(events(), "no event was defined")
        process.send_signal(signal.SIGKILL)
        process.wait()
        expect(events(), "they went by themselves")
        expect(target.poll() is None, "the target died")
        subprocess.run([PYLEAKD, "check"], stdout=subprocess.DEVNULL)
        expect(not events(), "leftovers were not removed")
        expect(target.poll() is None, "the target died")


def main():
    expected_method = sys.argv[1]
    print("Linux", os.uname().release, flush=True)
    for test in (check, exact, sampled, killed):
        try:
            if test is killed:
                os.makedirs("/tracing", exist_ok=True)
                subprocess.run(["busybox", "mount", "-t", "tracefs", "refused", "/tracing"])
            test(expected_method)
            print("RESULT", test.__name__, "ok", flush=True)
        except Exception as error:
            print("RESULT", test.__name__, f"FAILED: {error}", flush=True)
    print("RESULT all done", flush=True)


main()
