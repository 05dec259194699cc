"""Boards and rules of kits speak of metrics that exist, by labels that they have."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from confide.client.monitoring.metrics import METRICS as INSTITUTION
from confide.monitoring import alerts, boards
from confide.monitoring.samples import Metered
from confide.server.monitoring.metrics import METRICS as COORDINATOR
from confide.server.provisioning import monitoring

SIDES = {
    "institution": (INSTITUTION, boards.INSTITUTION, alerts.INSTITUTION),
    "coordinator": (COORDINATOR, boards.COORDINATOR, alerts.COORDINATOR),
}
SCRAPED = {"job", "instance"}
"""Labels that Prometheus adds."""
OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def board(side: str) -> dict[str, Any]:
    text = boards.board_text(f"confide {side}", f"confide-{side}", SIDES[side][1])
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def check_expression(expression: str, table: Mapping[str, Metered]) -> None:
    names = set(re.findall(r"confide_\w+", expression))
    assert names, expression
    assert names <= set(table), expression
    labels = {label for name in names for label in table[name].labels} | SCRAPED
    for grouped in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
        assert {word.strip() for word in grouped.split(",")} <= labels, expression
    for matched in re.findall(r"\{([^}]*)\}", expression):
        assert {part.split("=")[0] for part in matched.split(",")} <= labels, expression
    for name in re.findall(r"(?:rate|increase)\((confide_\w+)", expression):
        assert table[name].kind == "counter", expression


@pytest.mark.parametrize("side", SIDES)
def test_every_panel_and_alert_asks_for_metrics_that_exist(side: str) -> None:
    table, panels, rules = SIDES[side]
    for panel in panels:
        for expression, legend in panel.shown.items():
            check_expression(expression, table)
            names = re.findall(r"confide_\w+", expression)
            labels = {label for name in names for label in table[name].labels}
            assert set(re.findall(r"{{(\w+)}}", legend)) <= labels, panel.title
    for rule in rules:
        check_expression(rule.expression, table)
        names = re.findall(r"confide_\w+", rule.expression)
        labels = {label for name in names for label in table[name].labels}
        assert set(re.findall(r"\$labels\.(\w+)", rule.summary)) <= labels, rule.name


@pytest.mark.parametrize("side", SIDES)
def test_every_metric_but_what_names_a_release_is_on_the_board(side: str) -> None:
    table, panels, _ = SIDES[side]
    shown = {
        name for panel in panels for it in panel.shown for name in re.findall(r"confide_\w+", it)
    }
    assert set(table) - shown <= {
        "confide_build_info",
        "confide_disk_size_bytes",
        "confide_audit_log_events_total",
    }


@pytest.mark.parametrize("side", SIDES)
def test_a_board_is_what_grafana_reads(side: str) -> None:
    ours = board(side)
    panels = ours.pop("panels")
    # Whatever Grafana's own model does not know is lost on this way
    read = json.loads(json.dumps(Dashboard.from_json(board(side)), cls=JSONEncoder))
    assert {key: read[key] for key in ours if key != "templating"} == {
        key: value for key, value in ours.items() if key != "templating"
    }
    for mine, theirs in zip(panels, read["panels"], strict=True):
        targets = mine.pop("targets")
        assert {key: theirs.get(key) for key in mine if key != "fieldConfig"} == {
            key: value for key, value in mine.items() if key != "fieldConfig"
        }
        assert [target["refId"] for target in targets] == list("ABCDEF"[: len(targets)])
    (variable,) = read["templating"]["list"]
    assert variable["type"] == "datasource"


@pytest.mark.parametrize("side", SIDES)
def test_panels_have_places_of_their_own(side: str) -> None:
    taken: set[tuple[int, int]] = set()
    panels = board(side)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        at = panel["gridPos"]
        cells = {
            (at["x"] + across, at["y"] + down)
            for across in range(at["w"])
            for down in range(at["h"])
        }
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_kits_get_both_files_once(tmp_path: Path) -> None:
    for side, write in (
        ("institution", monitoring.write_institution),
        ("coordinator", monitoring.write_coordinator),
    ):
        folder = tmp_path / side
        folder.mkdir()
        write(folder, 'St. "Mary"')
        written = json.loads((folder / "monitoring" / "grafana.json").read_text())
        assert 'St. "Mary"' in written["title"]
        rules = yaml.safe_load((folder / "monitoring" / "alerts.yaml").read_text())
        (group,) = rules["groups"]
        assert len(group["rules"]) == len(SIDES[side][2])
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        write(folder, 'St. "Mary"')
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def rows(heading: str) -> dict[str, tuple[str, str]]:
    """Return name -> labels and meaning of a table of the manual."""
    text = OPERATIONS.read_text().split(heading, 1)[1].split("\n#", 1)[0]
    found = re.findall(
        r"^\| `(confide_\w+)` \| (\w+) \| ([^|]*) \| ([^|]*) \|$", text, re.MULTILINE
    )
    return {name: (kind, labels) for name, kind, labels, _ in found}


@pytest.mark.parametrize(
    ("heading", "side"),
    [("### Of an institution", "institution"), ("### Of a coordinator", "coordinator")],
)
def test_the_manual_lists_every_metric(heading: str, side: str) -> None:
    table = SIDES[side][0]
    assert rows(heading) == {
        name: (metered.kind, ", ".join(f"`{label}`" for label in metered.labels))
        for name, metered in table.items()
    }


@pytest.mark.parametrize("side", SIDES)
def test_the_manual_says_what_to_do_for_each_alert(side: str) -> None:
    text = OPERATIONS.read_text()
    for rule in SIDES[side][2]:
        assert f"| `{rule.name}` |" in text
