"""Both sides of a real run as their dashboards show it, while it goes on and afterwards."""

import contextlib
import json
import os
import signal
import time
from collections import Counter

import httpx
import pytest
from deployment_run import Deployment, free_port, wait_until
from prometheus_client.parser import text_string_to_metric_families

from confide.client.monitoring.snapshot import InstitutionWatch
from confide.server.monitoring.snapshot import CoordinatorWatch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

ROUNDS = 8
SHOWN, DECLINES = "Cleveland", "VA Long Beach"
"""Whose dashboard is asked, and whose policy allows no epsilon of 3."""
LONG_S = 600.0


def scraped(client: httpx.Client) -> dict[str, float]:
    """Return the values of metrics, summed over their labels but for a process; {} of no answer."""
    found: Counter[str] = Counter()
    with contextlib.suppress(httpx.TransportError):
        for family in text_string_to_metric_families(client.get("/metrics").text):
            for sample in family.samples:
                of = sample.labels.get("process", "")
                found[f"{sample.name}/{of}" if of else sample.name] += sample.value
    return dict(found)


def test_a_run_is_shown_on_both_sides_until_its_end() -> None:
    port = free_port()
    with Deployment() as ran:
        page = ran.kit(SHOWN) / "page.sock"
        for name in ran.institutions:
            more = [f"dashboard=unix:{page}"] if name == SHOWN else []
            more += ["policy.max_epsilon=1"] if name == DECLINES else []
            ran.start_client(name, *more)
        ran.start_server(
            f"server.num_rounds={ROUNDS}",
            "server.min_clients=2",
            "server.enrol_timeout_s=60",
            f"server.dashboard=127.0.0.1:{port}",
        )
        ours = httpx.HTTPTransport(uds=str(page))
        with (
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as coordinator,
            httpx.Client(transport=ours, base_url="http://localhost", timeout=30) as institution,
        ):
            wait_until(
                lambda: scraped(coordinator).get("confide_round", 0) >= 1,
                timeout_s=LONG_S,
                what="a round is shown",
            )
            assert scraped(coordinator)["confide_run_under_way"] == 1
            assert coordinator.get("/health").status_code == 200
            assert scraped(institution)["confide_run_unfinished"] == 1
            os.kill(ran.process_ids()[f"{SHOWN}/trainer"], signal.SIGKILL)
            wait_until(
                lambda: scraped(institution).get("confide_process_starts_total/trainer") == 2,
                timeout_s=LONG_S,
                what="the trainer's second start is shown",
            )
            assert ran.wait_for_server(LONG_S) == 0, ran.logs()
            time.sleep(1.1)  # for which a snapshot is good
            done = scraped(institution)
            assert institution.get("/health").status_code == 200
        assert done["confide_run_unfinished"] == 0
        assert done["confide_epsilon_spent"] == pytest.approx(3.0, abs=0.02)
        assert done["confide_rounds_total"] >= ROUNDS  # one that was lost is answered again
        # And nothing of it is lost with those who showed it
        lines = map(json.loads, (ran.run_dir / "metrics.jsonl").read_text().splitlines())
        seconds = [line["value"] for line in lines if line["name"] == "seconds"]
        seen = CoordinatorWatch(ran.coordinator_kit)()
        assert seen.run is not None
        assert (seen.run.state, seen.run.server_round) == ("finished", ROUNDS)
        assert seen.audit.seconds["round"] == pytest.approx(sum(seconds), abs=0.01)
        by_name = {one.name: one for one in seen.institutions}
        assert by_name[SHOWN].accepted == ROUNDS
        assert by_name[SHOWN].last_seen is not None
        assert (by_name[DECLINES].accepted, dict(by_name[DECLINES].refusals)) == (
            0,
            {"policy_max_epsilon": 1},
        )
        assert [run.folder for run in seen.runs] == [str(ran.run_dir)]
        refused = InstitutionWatch(ran.kit(DECLINES), ["data.path=x.csv", *ran.client_overrides])()
        assert set(refused.audit.refusals) == {"policy_max_epsilon"}
        for name in ran.institutions:
            ran.stop(name)
        wait_until(lambda: not page.exists(), timeout_s=30, what="the socket is gone")
