"""Measures `confide serve` beside `predict` in a loop and beside a plain FastAPI endpoint.

    python benchmarks/serving.py RUN RECORDS.csv [--clients 1 32 200] [--requests 2000] [--turns 3]

Each request is one record, drawn from the file's first 500. `predict` in a loop is a loaded model
that is asked one record after the other, in one process, without HTTP: what a script would do. The
plain endpoint is FastAPI under uvicorn with the same loaded model, a `def` that predicts what came,
as its documentation shows; it gets the same bodies. `confide serve` runs as it is, and again with
--rows 32. All are asked in turn, so that whatever else the machine does meets all. Printed are
requests a second, the 99th percentile of the time to an answer, and the server's own processor time
a request; medians over turns, and ratios to the loop and to the endpoint.
"""

import argparse
import asyncio
import contextlib
import csv
import functools
import itertools
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas

from confide.config.client import TrainerConfig
from confide.inference.inputs import input_columns, read_inputs
from confide.inference.prediction import predict_in_parts
from confide.inference.predictor import Predictor, load_predictor
from confide.models.compute import make_compute

_MOST_ROWS = 500
_TICKS = os.sysconf("SC_CLK_TCK")


class Measured(NamedTuple):
    """One turn: requests a second, p99 in ms, processor time a request in ms."""

    per_s: float
    p99_ms: float
    cpu_ms: float


def load(run: str) -> Predictor:
    compute = make_compute(TrainerConfig(device="cpu", feature_cache=None))
    return load_predictor(Path(run), compute=compute)


def rows_of(predictor: Predictor, records: Path) -> list[dict[str, str | None]]:
    """Return the columns that the model takes of a file's first records."""
    names = input_columns(predictor.task, predictor.plan.task)
    with records.open(newline="", encoding="utf-8", errors="replace") as file:
        first = itertools.islice(csv.DictReader(file), _MOST_ROWS)
        return [{name: row[name] or None for name in names} for row in first]


def predicted(predictor: Predictor, rows: Sequence[dict[str, str | None]]) -> list[dict[str, Any]]:
    inputs = read_inputs(predictor, pandas.DataFrame(rows), with_labels=False)
    frames = [part.frame for part in predict_in_parts(predictor, inputs)]
    return pandas.concat(frames).to_dict("records")


def serve_plainly(run: str, port: int) -> None:
    """Serve by FastAPI, as its documentation shows."""
    import uvicorn
    from fastapi import FastAPI

    predictor, app = load(run), FastAPI()

    def predict(records: list[dict[str, str | float | None]]) -> dict[str, Any]:
        return {"predictions": predicted(predictor, records)}

    app.post("/predict")(predict)
    uvicorn.run(app, port=port, log_level="warning")


@contextlib.contextmanager
def server(command: Sequence[str], port: int) -> Iterator[int]:
    """Run a server until its port answers; give its process id."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None:
                raise SystemExit(f"{command} has ended")
            time.sleep(0.2)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


async def _asked(port: int, bodies: Sequence[bytes], clients: int, count: int) -> list[float]:
    """Ask, and return the seconds of each answer."""
    numbers, seconds = iter(range(count)), []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            body, began = bodies[number % len(bodies)], time.perf_counter()
            head = (
                "POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = re.search(r"content-length: (\d+)", answer)
            await reader.readexactly(int(length[1]) if length else 0)
            if " 200 " not in answer[:20]:
                raise SystemExit(answer)
            seconds.append(time.perf_counter() - began)
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return seconds


def ask(port: int, pid: int, bodies: Sequence[bytes], clients: int, count: int) -> Measured:
    before, began = cpu_s(pid), time.perf_counter()
    seconds = sorted(asyncio.run(_asked(port, bodies, clients, count)))
    took = time.perf_counter() - began
    used = cpu_s(pid) - before
    return Measured(count / took, 1e3 * seconds[int(0.99 * count)], 1e3 * used / count)


def loop(predictor: Predictor, rows: Sequence[dict[str, str | None]], count: int) -> Measured:
    seconds, before, began = [], time.process_time(), time.perf_counter()
    for number in range(count):
        one = time.perf_counter()
        predicted(predictor, [rows[number % len(rows)]])
        seconds.append(time.perf_counter() - one)
    took, used = time.perf_counter() - began, time.process_time() - before
    return Measured(count / took, 1e3 * sorted(seconds)[int(0.99 * count)], 1e3 * used / count)


def _median(turns: Sequence[Measured]) -> Measured:
    return Measured(*(statistics.median(values) for values in zip(*turns, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("records", type=Path, nargs="?")
    parser.add_argument("--plain", type=int, metavar="PORT", help="be the plain endpoint")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 32, 200])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--port", type=int, default=9120)
    arguments = parser.parse_args()
    if arguments.plain is not None:
        return serve_plainly(arguments.run, arguments.plain)
    predictor = load(arguments.run)
    rows = rows_of(predictor, arguments.records)
    bodies = [json.dumps([row]).encode() for row in rows]
    ports = range(arguments.port, arguments.port + 3)
    own = [sys.executable, "-m", "confide.cli", "serve", arguments.run, "--listen"]
    commands = {
        "FastAPI": [sys.executable, __file__, arguments.run, "--plain", str(ports[0])],
        "serve": [*own, f"127.0.0.1:{ports[1]}"],
        "serve --rows 32": [*own, f"127.0.0.1:{ports[2]}", "--rows", "32"],
    }
    found: dict[tuple[str, int], list[Measured]] = {}
    with contextlib.ExitStack() as stack:
        running = {
            name: (port, stack.enter_context(server(command, port)))
            for (name, command), port in zip(commands.items(), ports, strict=True)
        }
        few = max(arguments.requests // 10, 20)
        for clients, turn in itertools.product(arguments.clients, range(arguments.turns + 1)):
            jobs: dict[str, Callable[[], Measured]] = {}
            count = few if clients == 1 else arguments.requests
            for name, (port, pid) in running.items():
                jobs[name] = functools.partial(ask, port, pid, bodies, clients, count)
            jobs["predict in a loop"] = functools.partial(loop, predictor, rows, few)
            for name, job in jobs.items():
                measured = job()
                if turn:  # the first warms up
                    found.setdefault((name, clients), []).append(measured)
    _print(found, arguments.clients)


def _print(found: dict[tuple[str, int], list[Measured]], clients: Sequence[int]) -> None:
    print(f"{'':20}{'clients':>8}{'a second':>10}{'p99 ms':>10}{'CPU ms':>8}   over loop, FastAPI")
    for count in clients:
        medians = {name: _median(turns) for (name, its), turns in found.items() if its == count}
        for name, one in medians.items():
            ratios = [
                f"{one.per_s / medians[other].per_s:.2f}"
                for other in ("predict in a loop", "FastAPI")
            ]
            print(
                f"{name:20}{count:>8}{one.per_s:>10.1f}{one.p99_ms:>10.1f}{one.cpu_ms:>8.2f}   "
                + ", ".join(ratios)
            )


if __name__ == "__main__":
    main()
