# SPDX-License-Identifier: MIT OR GPL-2.0
"""A set of tasks that wait for what never comes."""

import asyncio

import zoo

ZOO = {"verdict": "leak", "function": "leak", "match": "stack", "rate": 50}

LOOP = asyncio.new_event_loop()
TASKS = set()


async def forever():
    body = bytearray(6000)  # LEAK
    await LOOP.create_future()  # LEAK
    return body


async def quick():
    return bytearray(6000)


def leak(n):
    TASKS.add(LOOP.create_task(forever()))  # LEAK


def churn(n):
    LOOP.create_task(quick())


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


def settle():
    LOOP.run_until_complete(turns(3))


async def serve(step):
    while step():
        await asyncio.sleep(0)


def run(step):
    LOOP.run_until_complete(serve(step))


zoo.main(globals())
