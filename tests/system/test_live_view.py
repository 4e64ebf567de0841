# SPDX-License-Identifier: MIT OR GPL-2.0
"""The live view on a terminal of our own: what is on the screen, and how it is left."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

import support
from support import EXACT, PYLEAKD, Program, TARGETS

pytestmark = pytest.mark.needs("pyleakd", "root", "btf", "uprobe-multi", "stock-3.11")

HOME_AND_CLEAR = "\x1b[H\x1b[J"
ESCAPE = re.compile("\x1b\\[[0-9;?]*[A-Za-z]")


class Terminal:
    """pyleakd in the foreground of a terminal of so many rows and columns."""

    def __init__(self, *arguments, rows=40, columns=100, **environment):
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.master)
        self.text = ""
        self.process = support.start(
            [PYLEAKD, *arguments], stdin=slave, stdout=slave, stderr=subprocess.PIPE,
            env=support.environment(TERM="xterm", **environment),
            preexec_fn=self._take_terminal)
        os.close(slave)

    @staticmethod
    def _take_terminal():
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        support.stop(self.process)
        if self.master is not None:
            os.close(self.master)

    def hang_up(self):
        os.close(self.master)
        self.master = None

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, seconds):
        """What comes within this time, or until the end."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not select.select([self.master], [], [], 0.1)[0]:
                continue
            try:
                self.text += os.read(self.master, 1 << 16).decode()
            except OSError:  # EIO: nobody has the other end any more
                return

    def screens(self, after=0, count=2, timeout=30):
        """The next so many whole screens; lines without their escape sequences."""
        end = time.monotonic() + timeout
        while self.text.count(HOME_AND_CLEAR, after) <= count:
            assert time.monotonic() < end and self.process.poll() is None, self.text[-500:]
            self.read(0.2)
        return [screen.split("\r\n") for screen in
                self.text[after:].split(HOME_AND_CLEAR)[1:count + 1]]


def rows_of(screen, columns):
    """Rows that a screen takes, the cursor's below it included."""
    lines = [ESCAPE.sub("", line) for line in screen]
    return sum(max(1, -(-len(line) // columns)) for line in lines)


def test_the_live_view_fits_the_terminal_and_follows_its_size(stock):
    with Program(stock, TARGETS, "busy.py", "--sleep") as target:
        target.expect("work")
        with Terminal("--pid", target.pid, *EXACT, "--interval", "500ms", rows=12,
                      columns=70) as terminal:
            for screen in terminal.screens():
                assert "busy.py" in screen[0], screen
                assert rows_of(screen, 70) <= 12, screen
            terminal.resize(60, 160)
            after = len(terminal.text)
            tall = terminal.screens(after=after, count=3)[-1]
            assert "busy.py" in tall[0]
            assert 12 < rows_of(tall, 160) <= 60, tall
            assert not any("more line" in line for line in tall)
            assert max(len(ESCAPE.sub("", line)) for line in tall) > 70, tall


def test_ctrl_c_ends_the_live_view_with_the_report_and_leaves_the_terminal_as_it_was(stock):
    with Program(stock, TARGETS, "busy.py", "--sleep") as target:
        target.expect("work")
        with Terminal("--pid", target.pid, "--interval", "500ms") as terminal:
            terminal.screens()
            os.write(terminal.master, b"\x03")
            terminal.read(5)
            assert terminal.process.wait(timeout=20) == 0
            assert terminal.process.stderr.read() == b""
            assert termios.tcgetattr(terminal.master) == terminal.before
            last = terminal.text.rsplit(HOME_AND_CLEAR, 1)[1]
            assert last.count("pid %d" % target.pid) == 2, "the last screen and the report"
            assert last.endswith("\r\n")
            assert _colour_is_off(terminal.text)
            # Nothing that outlives it: no other screen, no cursor that is hidden.
            assert "\x1b[?" not in terminal.text
        assert support.text_differences(target.pid) == []


def test_a_terminal_that_is_closed_ends_the_session_with_its_report(stock, tmp_path):
    output = tmp_path / "report.json"
    with Program(stock, TARGETS, "busy.py", "--sleep") as target:
        target.expect("work")
        with Terminal("--pid", target.pid, "--interval", "500ms", "--format", "json",
                      "--output", output) as terminal:
            support.wait_attached(target.pid)
            terminal.hang_up()
            assert terminal.process.wait(timeout=20) == 0, terminal.process.stderr.read()
        assert json.loads(output.read_text())["session"]["moment"] == "session_end"
        assert support.text_differences(target.pid) == []


def test_a_terminal_that_is_closed_ends_a_command_too(stock, tmp_path):
    """The kernel tells the session's leader alone, and that is pyleakd."""
    output, said = tmp_path / "report.json", tmp_path / "said"
    program = ("import signal, sys, time\n"
               "def end(number, _):\n"
               f"    open({str(said)!r}, 'w').write(signal.Signals(number).name)\n"
               "    sys.exit(7)\n"
               "signal.signal(signal.SIGHUP, end)\n"
               "print('up', flush=True)\n"
               "while True: time.sleep(0.01)\n")
    with Terminal("run", "--format", "json", "--output", output, "--", *stock.command, "-c",
                  program) as terminal:
        end = time.monotonic() + 30
        while "up" not in terminal.text and time.monotonic() < end:
            terminal.read(0.2)
        terminal.hang_up()
        assert terminal.process.wait(timeout=30) == 7, terminal.process.stderr.read()
    assert said.read_text() == "SIGHUP"
    assert json.loads(output.read_text())["session"]["events"] > 0


def test_what_is_started_by_nohup_outlives_its_terminal(stock, tmp_path):
    output = tmp_path / "report.json"
    with Program(stock, TARGETS, "busy.py", "--sleep") as target:
        target.expect("work")
        process = support.start(["nohup", PYLEAKD, "--pid", target.pid, "--format", "json",
                                 "--output", output], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            support.wait_attached(target.pid)
            process.send_signal(signal.SIGHUP)
            time.sleep(1)
            assert process.poll() is None and not output.exists()
            support.interrupt(process)
            assert process.wait(timeout=20) == 0, process.stderr.read()
        finally:
            support.stop(process)
        assert json.loads(output.read_text())["session"]["moment"] == "session_end"


def _colour_is_off(text):
    codes = re.findall("\x1b\\[([0-9;]*)m", text)
    return not codes or codes[-1] in ("", "0")


@pytest.mark.parametrize("value,coloured", [(None, True), ("", True), ("1", False)])
def test_no_color_takes_the_colours_of_the_live_view_too(stock, value, coloured):
    environment = {} if value is None else {"NO_COLOR": value}
    with Program(stock, TARGETS, "busy.py", "--sleep") as target:
        target.expect("work")
        with Terminal("--pid", target.pid, "--interval", "300ms", "--duration", "1s",
                      **environment) as terminal:
            terminal.read(20)
            assert terminal.process.wait(timeout=20) == 0
            assert HOME_AND_CLEAR in terminal.text
            assert bool(re.search("\x1b\\[[0-9;]*m", terminal.text)) == coloured
