"""200 clients, 10,000 requests, and a SIGTERM: what was taken is answered, once each."""

import asyncio
import contextlib
import json
import re
import signal
from pathlib import Path
from typing import Any

import pandas
import pytest
from served_models import Process, connected, exchange, loaded, serving
from small_models import save_table_run

from confide.inference.inputs import read_inputs
from confide.inference.prediction import predict_in_parts
from confide.serving.datatypes import json_values

CLIENTS, REQUESTS, STOP_AFTER = 200, 10_000, 6_000


def body(number: int) -> bytes:
    """Ask about a person of an age that no other request has."""
    inputs = [
        {"name": "age", "datatype": "FP64", "shape": [1], "data": [number / 100]},
        {"name": "pain", "datatype": "BYTES", "shape": [1], "data": ["some"]},
    ]
    return json.dumps({"id": str(number), "inputs": inputs}).encode()


async def ask_all(process: Process) -> tuple[dict[int, list[Any]], list[int]]:
    """Return the answers by number, and those whose connection ended without one."""
    numbers, answers, lost = iter(range(REQUESTS)), {}, []
    path = f"/v2/models/{process.name}/infer"

    async def client() -> None:
        async with contextlib.AsyncExitStack() as stack:
            connection = None
            for number in numbers:
                if number == STOP_AFTER:
                    process.process.send_signal(signal.SIGTERM)
                try:
                    if connection is None or connection[0].at_eof():
                        connection = await stack.enter_async_context(connected(process.port))
                    status, answer = await exchange(connection, path, body(number))
                except (OSError, asyncio.IncompleteReadError):
                    connection = None
                    lost.append(number)
                    continue
                answers.setdefault(number, []).append((status, answer))

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return answers, lost


@pytest.mark.slow
def test_what_was_taken_is_answered_once_each_with_its_own(tmp_path: Path) -> None:
    run = save_table_run(tmp_path)
    with serving(run) as process:
        answers, lost = asyncio.run(ask_all(process))
        assert process.process.wait(60) == 0
        log = process.log
    told = re.search(r"Answered (\d+) requests; 0 were not answered", log)
    assert told is not None
    taken = {n: one for n, found in answers.items() for status, one in found if status == 200}
    refused = [n for n, found in answers.items() for status, _ in found if status == 503]
    assert int(told[1]) == len(taken) > STOP_AFTER - CLIENTS
    assert all(len(found) == 1 for found in answers.values())
    assert len(taken) + len(refused) + len(lost) == REQUESTS
    assert all(one["id"] == str(number) for number, one in taken.items())
    predictor = loaded(run)
    numbers = sorted(taken)
    frame = pandas.DataFrame({"age": [n / 100 for n in numbers], "pain": "some"})
    parts = predict_in_parts(predictor, read_inputs(predictor, frame, with_labels=False))
    expected = pandas.concat([part.frame for part in parts])["probability_ill"]
    found = [
        next(it["data"][0] for it in taken[n]["outputs"] if it["name"] == "probability_ill")
        for n in numbers
    ]
    assert found == json_values(expected.tolist(), "FP32")
    print(f"{len(taken)} answered, {len(refused)} refused, {len(lost)} not taken")
