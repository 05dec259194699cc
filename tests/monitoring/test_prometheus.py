"""A real Prometheus scrapes both sides over loopback, and loads what kits have for it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from builders import build_plan
from provisioned import FEDERATION
from small_kit import PRIVATE, ask, make_kit

from confide.client.deployment.audited import AuditedHandler, watched
from confide.client.deployment.kit_audit import open_audit_log
from confide.client.deployment.served import DeployedInstitution
from confide.client.training.deadline import Deadline
from confide.config.composing.compose import compose
from confide.deployment.lifetime import PROCESSES, STARTS
from confide.flower.processes import free_port
from confide.monitoring import alerts, boards
from confide.server.deployment.audited import RunAudit
from confide.server.deployment.audited import open_audit_log as open_coordinators
from confide.server.deployment.kit import load_coordinator_kit
from confide.server.provisioning.provision import provision

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
MISSING = "no prometheus and promtool on the PATH: apt-get install prometheus"
LONG_S = 240.0
RULES = {"institution": alerts.INSTITUTION, "coordinator": alerts.COORDINATOR}
PANELS = {"institution": boards.INSTITUTION, "coordinator": boards.COORDINATOR}
DAY_S = 86400

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROMETHEUS is None or PROMTOOL is None, reason=MISSING),
    pytest.mark.timeout(900),
]

# Series of a minute a step, the alert's name, the minute, and whether it fires then
FIRES: dict[str, list[tuple[dict[str, str], str, int, bool]]] = {
    "institution": [
        (
            {'confide_certificate_expiry_timestamp_seconds{file="ca.crt"}': f"{29 * DAY_S}x100"},
            "ConfideCertificateExpires",
            70,
            True,
        ),
        (
            {'confide_certificate_expiry_timestamp_seconds{file="ca.crt"}': f"{40 * DAY_S}x100"},
            "ConfideCertificateExpires",
            70,
            False,
        ),
        (
            {
                'confide_epsilon_left{budget="ward"}': "0.7x20",
                'confide_epsilon_budget{budget="ward"}': "8x20",
            },
            "ConfideBudgetNearlySpent",
            10,
            True,
        ),
        (
            {
                'confide_epsilon_left{budget="ward"}': "0.9x20",
                'confide_epsilon_budget{budget="ward"}': "8x20",
            },
            "ConfideBudgetNearlySpent",
            10,
            False,
        ),
        ({'confide_process_up{process="trainer"}': "1x5 0x20"}, "ConfideProcessDown", 15, True),
        (
            {'confide_process_up{process="trainer"}': "1x5 0x2 1x20"},
            "ConfideProcessDown",
            15,
            False,
        ),
        (
            {'confide_process_starts_total{process="trainer"}': "1+1x30"},
            "ConfideProcessDown",
            25,
            True,
        ),
        (
            {'confide_process_starts_total{process="trainer"}': "1x10 2x30"},
            "ConfideProcessDown",
            25,
            False,
        ),
        ({'confide_drift_alarm{model="a"}': "0x5 1x20"}, "ConfideDrift", 10, True),
        ({'confide_drift_alarm{model="a"}': "0x5 1x2 0x20"}, "ConfideDrift", 10, False),
        (
            {
                "confide_run_unfinished": "1x200",
                "confide_last_request_timestamp_seconds": "0x200",
            },
            "ConfideNobodyAsks",
            130,
            True,
        ),
        (
            {
                "confide_run_unfinished": "0x200",
                "confide_last_request_timestamp_seconds": "0x200",
            },
            "ConfideNobodyAsks",
            130,
            False,
        ),
        ({'confide_drift_alarm{model="0123abcd4567"}': "1x20"}, "ConfideDrift", 10, True),
        ({'confide_drift_alarm{model="0123abcd4567"}': "0x20"}, "ConfideDrift", 10, False),
    ],
    "coordinator": [
        (
            {
                'confide_refusals_total{institution="A",code="budget_exhausted"}': "0x10 1x20",
                'confide_refusals_total{institution="A",code="no_reply"}': "0+1x30",
            },
            "ConfideBudgetRefused",
            15,
            True,
        ),
        (
            {
                'confide_refusals_total{institution="A",code="budget_exhausted"}': "0x30",
                'confide_refusals_total{institution="A",code="no_reply"}': "0+1x30",
            },
            "ConfideBudgetRefused",
            15,
            False,
        ),
        (
            {'confide_process_up{process="front"}': "0x20", "confide_run_under_way": "1x20"},
            "ConfideProcessDown",
            15,
            True,
        ),
        (
            {'confide_process_up{process="front"}': "0x20", "confide_run_under_way": "0x20"},
            "ConfideProcessDown",
            15,
            False,
        ),
        (
            {
                "confide_run_under_way": "1x200",
                "confide_last_progress_timestamp_seconds": "0x200",
            },
            "ConfideNoRoundEnds",
            130,
            True,
        ),
        (
            {
                "confide_run_under_way": "1x200",
                "confide_last_progress_timestamp_seconds": "0+60x200",
            },
            "ConfideNoRoundEnds",
            130,
            False,
        ),
    ],
}


def promtool(*words: str) -> str:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *words], capture_output=True, text=True, timeout=LONG_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def series(name: str) -> str:
    """Add the labels that a scrape adds."""
    scraped = 'job="confide",instance="a"'
    return f"{name[:-1]},{scraped}}}" if name.endswith("}") else f"{name}{{{scraped}}}"


@pytest.mark.parametrize("side", RULES)
def test_rules_load_and_fire_when_they_should(side: str, tmp_path: Path) -> None:
    (tmp_path / "alerts.yaml").write_text(alerts.rules_text(RULES[side]))
    checked = promtool("check", "rules", str(tmp_path / "alerts.yaml"))
    assert f"SUCCESS: {len(RULES[side])} rules found" in checked
    for number, (given, name, minute, fires) in enumerate(FIRES[side]):
        test = {
            "rule_files": ["alerts.yaml"],
            "evaluation_interval": "1m",
            "tests": [
                {
                    "interval": "1m",
                    "input_series": [
                        {"series": series(key), "values": steps} for key, steps in given.items()
                    ],
                    # Whether it fires, and nothing of its labels
                    "promql_expr_test": [
                        {
                            "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}})',
                            "eval_time": f"{minute}m",
                            "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
                        }
                    ],
                }
            ],
        }
        (tmp_path / f"{number}.yaml").write_text(yaml.safe_dump(test))
        promtool("test", "rules", str(tmp_path / f"{number}.yaml"))
    assert {name for _, name, _, fires in FIRES[side] if fires} >= {
        rule.name for rule in RULES[side] if rule.name != "ConfideCertificateExpires"
    }


# --- both sides, and a Prometheus


def institution(folder: Path) -> Path:
    kit = make_kit(folder)
    trainer = DeployedInstitution(kit, deadline=Deadline())
    log = open_audit_log(kit)
    door = AuditedHandler(trainer, log, watched(kit, lambda: trainer.ledger_events))
    assert door.handle("train", ask(PRIVATE, 1)).refusal is None
    running(kit.state / "logs", "trainer", "executor", "supernode")
    return folder


def coordinator(folder: Path) -> Path:
    config = compose(["experiment=heart_disease", "server.kit=coordinator"])
    provision(FEDERATION, config, folder / "kits")
    (folder / "config.yaml").write_text("server: {}\n")
    kit = load_coordinator_kit(folder / "kits" / "coordinator")
    told = RunAudit(open_coordinators(kit), kit, folder, job="trial")
    told.planned(build_plan(job="trial", num_rounds=3))
    told.absent({"Cleveland": "budget_exhausted"})
    told.started({"VA Long Beach": 1})
    running(kit.logs, "superlink", "front", "rounds")
    return kit.folder


def running(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pids = {"supervisor": os.getpid(), **dict.fromkeys(names, os.getpid())}
    (folder / PROCESSES).write_text(json.dumps(pids))
    (folder / STARTS).write_text(json.dumps(dict.fromkeys(names, 1)))


@contextlib.contextmanager
def process(*words: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file:
        child = subprocess.Popen(words, stdout=file, stderr=file)
    try:
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        assert child.wait(LONG_S) == 0, log.read_text()


def until_answered(url: str, child: subprocess.Popen[bytes], log: Path) -> httpx.Response:
    end = time.monotonic() + LONG_S
    while time.monotonic() < end:
        assert child.poll() is None, log.read_text()
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.get(url, timeout=30)
            if answer.status_code == 200:
                return answer
        time.sleep(0.5)
    raise AssertionError(f"{url} did not answer: {log.read_text()}")


def queried(base: str, expression: str) -> list[dict[str, Any]]:
    answer = httpx.get(f"{base}/api/v1/query", params={"query": expression}, timeout=30).json()
    assert answer["status"] == "success", (expression, answer)
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


@pytest.mark.parametrize("side", RULES)
def test_a_prometheus_scrapes_a_side_and_knows_every_panel(side: str, tmp_path: Path) -> None:
    assert PROMETHEUS is not None
    kit = (institution if side == "institution" else coordinator)(tmp_path / "side")
    ports = {"dashboard": free_port(), "prometheus": free_port()}
    base = f"http://127.0.0.1:{ports['prometheus']}"
    (tmp_path / "alerts.yaml").write_text(alerts.rules_text(RULES[side]))
    target = {"targets": [f"127.0.0.1:{ports['dashboard']}"]}
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "scrape_configs": [{"job_name": "confide", "static_configs": [target]}],
        "rule_files": [str(tmp_path / "alerts.yaml")],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    log, watch_log = tmp_path / "prometheus.log", tmp_path / "dashboard.log"
    dashboard = [sys.executable, "-m", "confide.cli", "dashboard", str(kit)]
    dashboard += ["--listen", f"127.0.0.1:{ports['dashboard']}"]
    watcher = [PROMETHEUS, f"--config.file={tmp_path / 'prometheus.yml'}"]
    watcher += [f"--storage.tsdb.path={tmp_path / 'data'}"]
    watcher += [f"--web.listen-address=127.0.0.1:{ports['prometheus']}"]
    with (
        process(*dashboard, log=watch_log) as shown,
        process(*watcher, log=log) as scraper,
    ):
        until_answered(f"http://127.0.0.1:{ports['dashboard']}/metrics", shown, watch_log)
        until_answered(f"{base}/-/ready", scraper, log)
        end = time.monotonic() + LONG_S
        while not (up := queried(base, "up == 1")) and time.monotonic() < end:
            time.sleep(0.5)
        assert len(up) == 1, httpx.get(f"{base}/api/v1/targets").text
        for panel in PANELS[side]:
            for expression in panel.shown:
                assert isinstance(queried(base, expression), list)
        (trained,) = queried(base, "confide_rounds_total")
        assert trained["value"][1] == ("1" if side == "institution" else "0")
        (group,) = httpx.get(f"{base}/api/v1/rules").json()["data"]["groups"]
        end = time.monotonic() + LONG_S
        while {rule["health"] for rule in group["rules"]} != {"ok"} and time.monotonic() < end:
            time.sleep(0.5)
            (group,) = httpx.get(f"{base}/api/v1/rules").json()["data"]["groups"]
        assert {rule["health"] for rule in group["rules"]} == {"ok"}
