# SPDX-License-Identifier: MIT OR GPL-2.0
"""How soon the sampled mode names a leak: shapes of the zoo inside the services.

    answer.py [--budget PCT] [--rate BYTES] [--limit S] [--services …] [--shapes …]
              [--at-once N] [--plot FILE.svg]                                  (as root)

A leak of 20 KB/s (in each of gunicorn's workers) is in the service before the session begins. The
session shows its live view every second; the answer is there when the first site of a target is
the marked line with verdict leak or growing, and stays so for three looks: the first of them
counts. "wrong" are looks at which another line was called leak or growing, and stood first.
"""

import argparse
import concurrent.futures
import contextlib
import statistics
import sys
import time

import harness
import support

SHAPES = ("dict_among_churn", "tuple_among_churn", "float_among_churn", "list_among_churn",
          "closure", "instances_with_dict", "strings_kept", "bytes_kept")
SETTLE_SECONDS = 3


def run(name, shape, bytes_a_call, options):
    """What can't be measured is no answer, and is told; the others go on."""
    try:
        answer = ask(name, shape, bytes_a_call, options)
    except (SystemExit, AssertionError, OSError) as error:
        print(f"{name} {shape}: not measured: {error}")
        answer = harness.Answer()
    answer.name, answer.shape = name, shape
    print(f"{time.strftime('%H:%M:%S')} {name} {shape}: {answer.seconds}, {answer.wrong} of "
          f"{answer.looks} looks wrong", file=sys.stderr, flush=True)
    return answer


def ask(name, shape, bytes_a_call, options):
    with harness.service(name, f"{shape}={options.rate / bytes_a_call}") as target:
        with contextlib.ExitStack() as stack:
            if name == "flask":
                target.keep_loaded(int(options.limit + 3 * SETTLE_SECONDS))
                stack.callback(support.stop, target.load_process)
            time.sleep(SETTLE_SECONDS)
            return harness.watch(target.pids, shape, options.limit, options.budget)


# --- the picture ---

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9")


def plot(cells, options):
    """The share of leaks that are named, over time, a line a service."""
    left, top, width, height = 50, 20, 560, 260
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width + 180} {height + 70}" '
             'font-family="sans-serif" font-size="12">',
             '<rect width="100%" height="100%" fill="white"/>']
    for share in (0, 0.5, 0.9, 1):
        y = top + height * (1 - share)
        parts.append(f'<path d="M{left} {y:.1f}h{width}" stroke="#ddd"/>'
                     f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">'
                     f'{100 * share:.0f} %</text>')
    for second in range(0, int(options.limit) + 1, 30):
        x = left + width * second / options.limit
        parts.append(f'<path d="M{x:.1f} {top}v{height}" stroke="#ddd"/><text x="{x:.1f}" '
                     f'y="{top + height + 18}" text-anchor="middle">{second} s</text>')
    for number, name in enumerate(dict.fromkeys(cell.name for cell in cells)):
        own = [cell for cell in cells if cell.name == name]
        times = sorted(cell.seconds for cell in own if cell.seconds is not None)
        path = f"M{left} {top + height}"
        for done, seconds in enumerate(times, 1):
            path += (f"H{left + width * seconds / options.limit:.1f}"
                     f"V{top + height * (1 - done / len(own)):.1f}")
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<path d="{path}H{left + width}" fill="none" stroke="{colour}" '
                     'stroke-width="2"/>'
                     f'<text x="{left + width + 12}" y="{top + 20 * number + 12}" '
                     f'fill="{colour}">{name}: {len(times)} of {len(own)}</text>')
    parts.append(f'<text x="{left}" y="{top + height + 44}">seconds from the attach until the '
                 f'right line is named; budget {options.budget} %, {options.rate / 1000:.0f} KB/s'
                 '</text></svg>')
    with open(options.plot, "w", encoding="ascii") as file:
        file.write("\n".join(parts) + "\n")


def print_table(cells, options):
    shapes = list(dict.fromkeys(cell.shape for cell in cells))
    names = list(dict.fromkeys(cell.name for cell in cells))
    print(f"{'seconds (wrong looks)':<24}" + "".join(f"{name:>12}" for name in names))
    for shape in shapes:
        row = f"{shape:<24}"
        for name in names:
            cell = next(cell for cell in cells if (cell.name, cell.shape) == (name, shape))
            text = "-" if cell.seconds is None else f"{cell.seconds:.0f}"
            row += f"{text + (f' ({cell.wrong})' if cell.wrong else ''):>12}"
        print(row)
    for name in [*names, "all"]:
        own = [cell for cell in cells if name in (cell.name, "all")]
        times = [cell.seconds if cell.seconds is not None else float("inf") for cell in own]
        found = sum(time < float("inf") for time in times)
        middle, late, last = (f"{time:.0f} s" if time < float("inf") else "beyond the limit"
                              for time in (statistics.median(times),
                                           harness.percentile(times, 0.9), max(times)))
        print(f"{name:<8} named {found} of {len(own)}; median {middle}, 90th percentile {late}, "
              f"maximum {last}; "
              f"a wrong line first at {sum(cell.wrong for cell in own)} of "
              f"{sum(cell.looks for cell in own)} looks")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--budget", default="1")
    parser.add_argument("--rate", type=float, default=20000)
    parser.add_argument("--limit", type=float, default=300)
    parser.add_argument("--services", default=",".join(harness.SERVICES))
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--plot")
    options = parser.parse_args()
    harness.begin()
    shapes = options.shapes.split(",")
    sizes = {shape: harness.bytes_a_call(shape) for shape in shapes}
    with concurrent.futures.ThreadPoolExecutor(options.at_once) as pool:
        jobs = [pool.submit(run, name, shape, sizes[shape], options)
                for shape in shapes for name in options.services.split(",")]
        cells = [job.result() for job in jobs]
    print_table(cells, options)
    harness.end()
    if options.plot:
        plot(cells, options)


main()
