"""Load on a deployment: a program for the environment of Ray. It counts every request and checks every answer.

    python load.py URL... --clients N --least N

Each client sends one row at a time and waits for its answer. The clients spread over the addresses; one that gets no
connection goes on to the next, as a load balancer would. The program says ``begun`` after the first answers. It
ends when its standard input ends, ``--least`` requests are done and, after a line of standard input, another 500. It
writes one JSON object: ``sent``, ``right`` (answer to count), ``after`` (the same since that line), ``failed`` (reason
to count), ``last_failure_s``, ``longest_s`` and ``seconds``.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter

import aiohttp

ROW = [1.0, 2.0, 3.0, 4.0]
BODY = json.dumps({"instances": [ROW]}).encode()
HEADERS = {"Content-Type": "application/json"}
PATIENCE_S = 60.0
AFTER = 500


class Load:
    def __init__(self, urls: list[str], least: int) -> None:
        self.urls, self.least = urls, least
        self.sent, self.begun, self.marked, self.ended = 0, False, False, False
        self.right: Counter[str] = Counter()
        self.after: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.last_failure = self.longest_s = 0.0

    async def client(self, session: aiohttp.ClientSession, place: int) -> None:
        while not self.done():
            self.sent += 1
            begun, mark = time.monotonic(), self.after
            answer, failure = await self.ask(session, self.urls[place % len(self.urls)])
            self.longest_s = max(self.longest_s, time.monotonic() - begun)
            if failure:
                self.failed[failure] += 1
                self.last_failure = time.monotonic()
                if not failure.isdecimal():
                    place += 1
                await asyncio.sleep(0.05)  # a client that is refused at once does not spin
            else:
                self.right[answer] += 1
                mark[answer] += 1
            if not self.begun and sum(self.right.values()) >= 100:
                self.begun = True
                say("begun")

    def done(self) -> bool:
        enough = not self.marked or sum(self.after.values()) >= AFTER
        return self.ended and self.sent >= self.least and enough

    async def ask(self, session: aiohttp.ClientSession, url: str) -> tuple[str, str]:
        """The factor that the model multiplied by, or why there is no right answer."""
        try:
            async with session.post(f"{url}/invocations", data=BODY, headers=HEADERS) as response:
                text = await response.text()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return "", type(error).__name__
        if response.status != 200:
            return "", str(response.status)
        row = json.loads(text)["predictions"][0]
        factor = row[0] / ROW[0]
        return (f"{factor:g}", "") if row == [factor * value for value in ROW] else ("", f"wrong answer {text[:80]}")

    async def follow(self, reader: asyncio.StreamReader) -> None:
        while await reader.readline():
            self.after, self.marked = Counter(), True
        self.ended = True


async def main(urls: list[str], clients: int, least: int) -> None:
    load, reader = Load(urls, least), asyncio.StreamReader()
    loop, begun = asyncio.get_running_loop(), time.monotonic()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(load.follow(reader), *(load.client(session, place) for place in range(clients)))
    result = {name: getattr(load, name) for name in ("sent", "right", "after", "failed", "longest_s")}
    last = load.last_failure - begun if load.failed else 0.0
    say(json.dumps({**result, "last_failure_s": last, "seconds": time.monotonic() - begun}))


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("urls", nargs="+")
    options.add_argument("--clients", type=int, required=True)
    options.add_argument("--least", type=int, default=0)
    given = options.parse_args()
    asyncio.run(main(given.urls, given.clients, given.least))
