"""The planted server: it waits for a known time in each stage, and sends its stage times as Slipway does.

    python -m tests.unit.bench.planted_server [SCALE]

multiplies all waits by SCALE (default: 1), prints its port, and serves on 127.0.0.1 until its standard input closes.
"""

from __future__ import annotations

import asyncio
import sys
import time

from bench.load.child_server import serve

DELAYS_MS = {"decode": 10.0, "queue_busy": 25.0, "queue_timer": 15.0, "compute": 40.0, "encode": 10.0, "residual": 20.0}
"""The planted waits in ms; the residual is a wait after the header, which no stage time can include."""


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, scale: float) -> None:
    """Answer every request of one connection, each after all of its waits."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
            await reader.readexactly(int(fields.get(b"Content-Length", b"0")))
            writer.write(await _reply(scale))
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def _reply(scale: float) -> bytes:
    stages = []
    for stage, delay_ms in DELAYS_MS.items():
        begun_ns = time.perf_counter_ns()
        await asyncio.sleep(scale * delay_ms / 1e3)
        if stage != "residual":
            stages.append(f"{stage};dur={(time.perf_counter_ns() - begun_ns) / 1e6:.4f}")
    timing = ", ".join([*stages, 'batch;desc="1"'])
    return f"HTTP/1.1 200 OK\r\nServer-Timing: {timing}\r\nContent-Length: 2\r\n\r\n{{}}".encode()


async def main(scale: float) -> None:
    server = await asyncio.start_server(lambda reader, writer: answer(reader, writer, scale), "127.0.0.1", 0)
    await serve(server)


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0))
