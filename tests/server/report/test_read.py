import shutil
from pathlib import Path

import pytest

from confide.errors import ConfigError, UnreadableError
from confide.server.report.metrics_file import read_metrics
from confide.server.report.read import read_run


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"holds no run that has ended \(summary.json is missing\)"
    ):
        read_run(tmp_path)


def test_a_damaged_summary_is_named(tmp_path: Path, plain_run: Path) -> None:
    copy = Path(shutil.copytree(plain_run, tmp_path / "run"))
    (copy / "summary.json").write_text("{")

    with pytest.raises(UnreadableError, match="cannot be read"):
        read_run(copy)


def test_a_half_written_last_line_is_left_out(tmp_path: Path) -> None:
    line = (
        '{"round": 1, "phase": "train", "client": null, "name": "seconds", "value": 2.0,'
        ' "num_examples": null}\n'
    )
    (tmp_path / "metrics.jsonl").write_text(line + line[:20])

    assert list(read_metrics(tmp_path)["value"]) == [2.0]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("{]\n{}\n")

    with pytest.raises(UnreadableError, match=r"metrics.jsonl is damaged"):
        read_metrics(tmp_path)
