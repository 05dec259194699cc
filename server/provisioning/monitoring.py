"""What a kit has for whoever watches it: a Grafana board and alert rules for Prometheus."""

from pathlib import Path

from confide.monitoring import alerts, boards
from confide.server.provisioning.files import write_changed
from confide.storage.files import make_private_folder

FOLDER = "monitoring"
BOARD, RULES = "grafana.json", "alerts.yaml"


def write_institution(kit: Path, name: str) -> None:
    """Write what an institution's kit has, as far as it is not there.

    Args:
        kit: folder of the kit.
        name: name of the institution.
    """
    panels, rules = boards.INSTITUTION, alerts.INSTITUTION
    board = boards.board_text(f"confide: {name}", "confide-institution", panels)
    _write(kit, board, alerts.rules_text(rules))


def write_coordinator(kit: Path, name: str) -> None:
    """Write what a coordinator's kit has, as far as it is not there.

    Args:
        kit: folder of the kit.
        name: name of the federation.
    """
    panels, rules = boards.COORDINATOR, alerts.COORDINATOR
    board = boards.board_text(f"confide: coordinator of {name}", "confide-coordinator", panels)
    _write(kit, board, alerts.rules_text(rules))


def _write(kit: Path, board: str, rules: str) -> None:
    folder = kit / FOLDER
    make_private_folder(folder)
    write_changed(folder / BOARD, board)
    write_changed(folder / RULES, rules)


__all__ = ["BOARD", "FOLDER", "RULES", "write_coordinator", "write_institution"]
