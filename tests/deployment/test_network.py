"""A federation over a network that fails.

Nobody misses a deadline, and the weights are those of the simulation.
"""

import threading
import time
from collections.abc import Callable, Sequence

import pytest
from deployment_run import ALLOWING, HEART, Deployment, free_port, wait_until
from fault_proxy import FaultProxy

WIDE = (*HEART, "backbone=mlp", "backbone.hidden=[1024,1024]", "client.local_steps=2")
"""4.4 MB an update, so that an upload can be cut in its midst."""
HALF_AN_UPDATE = 2_000_000
ALL = ("Cleveland", "Hungary", "Switzerland", "VA Long Beach")

Fault = tuple[str, Callable[[FaultProxy], None]]


def _in_an_upload(fault: Callable[[FaultProxy], None]) -> Callable[[FaultProxy], None]:
    """Wait until an upload is under way."""

    def fail(proxy: FaultProxy) -> None:
        before = proxy.bytes_up
        wait_until(
            lambda: proxy.bytes_up > before + HALF_AN_UPDATE,
            timeout_s=100,
            what="an upload is under way",
        )
        fault(proxy)

    return fail


def _slow(proxy: FaultProxy) -> None:
    proxy.latency_s = 0.2


RESET: Fault = ("an upload is reset", lambda proxy: proxy.cut_after(HALF_AN_UPDATE))
CUT: Fault = ("a cut of 20 s in an upload", _in_an_upload(lambda proxy: proxy.cut(20)))
STALL: Fault = ("a stall of 30 s in an upload", _in_an_upload(lambda proxy: proxy.stall(30)))
HALF_OPEN: Fault = ("connections are half open", _in_an_upload(lambda proxy: proxy.half_open()))
SLOW: Fault = ("200 ms each way", _slow)
LONG_CUT: Fault = ("a cut of 90 s in an upload", _in_an_upload(lambda proxy: proxy.cut(90)))


class Weather(threading.Thread):
    """Lets one fault come in each round from the second on, and measures what rounds take.

    Args:
        deployment: that is watched.
        proxy: before its front.
        faults: one a round.
    """

    def __init__(self, deployment: Deployment, proxy: FaultProxy, faults: Sequence[Fault]) -> None:
        super().__init__(daemon=True)
        self._deployment, self._proxy, self._faults = deployment, proxy, faults
        self.came: list[str] = []
        self.seconds: dict[str, float] = {}

    def run(self) -> None:
        self._wait_for_round(1)
        for number, (name, fault) in enumerate(self._faults, start=2):
            began = time.monotonic()
            fault(self._proxy)
            self.came.append(name)
            self._wait_for_round(number)
            self.seconds[name] = round(time.monotonic() - began, 1)

    def _wait_for_round(self, number: int) -> None:
        wait_until(
            lambda: self._deployment.rounds_done() >= number, timeout_s=400, what=f"round {number}"
        )


@pytest.mark.slow
@pytest.mark.timeout(560)
@pytest.mark.parametrize(
    ("faults", "longest_s"),
    [([RESET, CUT, STALL, HALF_OPEN, SLOW], 400), ([LONG_CUT], 330)],
    ids=["many", "long"],
)
def test_run_outlasts_a_failing_network_with_the_weights_of_the_simulation(
    faults: list[Fault], longest_s: float
) -> None:
    port, rounds = free_port(), f"server.num_rounds={len(faults) + 1}"
    allowing = (*ALLOWING, "data.id_column=id")
    with (
        FaultProxy(port) as proxy,
        Deployment(WIDE, ALL, allowing, port=port, coordinator_port=proxy.port) as deployment,
    ):
        deployment.start_clients()
        deployment.start_server(rounds)
        weather = Weather(deployment, proxy, faults)
        weather.start()
        assert deployment.wait_for_server(longest_s) == 0
        weather.join(5)
        print(weather.seconds, f"{proxy.connections} connections, {proxy.bytes_up} bytes up")
        assert weather.came == [name for name, _ in faults]
        summary = deployment.summary()
        assert summary["model_sha256"] == deployment.simulate(rounds)["model_sha256"]
        assert {client["rounds"] for client in summary["clients"].values()} == {len(faults) + 1}, (
            "somebody missed a round"
        )
