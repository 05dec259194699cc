"""``confide simulate``: Hydra's command line around :func:`confide.simulations.run.simulate`."""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from confide.compose import CONF_MODULE, check_jobs, register_schema, to_config
from confide.errors import ConfideError

_INFORMATION_FLAGS = frozenset({"--help", "-h", "--hydra-help", "--version", "--info", "-i"})


def main(argv: Sequence[str]) -> int:
    """Run ``confide simulate`` with Hydra's own words.

    Args:
        argv: overrides and Hydra's flags (``--help``, ``--cfg job``, ``-m``).

    Returns:
        The exit status.

    Raises:
        ConfigError: naming every mistake, before anything heavy is imported.
    """
    if not _INFORMATION_FLAGS & set(argv):
        check_jobs(_overrides(argv))
    register_schema()
    sys.argv = ["confide simulate", *argv]
    hydra.main(config_path=f"pkg://{CONF_MODULE}", config_name="config", version_base="1.3")(_run)()
    return 0


def _overrides(argv: Sequence[str]) -> list[str]:
    """Pick the overrides out of Hydra's command line."""
    takes_value = {
        "--cfg",
        "-c",
        "--package",
        "-p",
        "--config-path",
        "-cp",
        "--config-name",
        "-cn",
        "--config-dir",
        "-cd",
    }
    words, skip = [], False
    for word in argv:
        if skip:
            skip = False
        elif word in takes_value:
            skip = True
        elif not word.startswith("-"):
            words.append(word)
    return words


def _run(composed: DictConfig) -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("TQDM_DISABLE", "1")  # a bar of our own says more than those of the libraries
    try:
        _simulate(composed)
    except ConfideError as error:
        logging.getLogger(__name__).info("%s", error)
        print(f"confide simulate: {error}", file=sys.stderr)
        sys.exit(1)


def _simulate(composed: DictConfig) -> None:
    config = to_config(composed)
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    (run_dir / "config.yaml").write_text(OmegaConf.to_yaml(composed, resolve=True))
    # Imported once the config is known to be right: torch, transformers and Opacus take seconds.
    from confide.server.progress import make_progress
    from confide.server.results import closing_table
    from confide.simulations.run import simulate

    summary = simulate(config, run_dir, progress=make_progress(config.task.primary_metric))
    console = Console()
    console.print(closing_table(summary))
    for line in closing_lines(summary, run_dir):
        console.print(line, highlight=False, soft_wrap=True)


def closing_lines(summary: dict[str, object], run_dir: Path) -> list[str]:
    """Say in three lines what was learnt, what it cost, and where it lies."""
    metric, federated, privacy = summary["primary_metric"], summary["federated"], summary["privacy"]
    assert isinstance(federated, dict)
    assert isinstance(privacy, dict)
    scores = ", ".join(
        f"{name} {value:.3f}" for name, value in federated.items() if name in (metric, "auc", "macro_f1", "log_loss")
    )
    lines = [f"Federated model, {federated['test_examples']} pooled test records: {scores}."]
    if privacy["unit"] != "none":
        lines.append(
            f"Privacy: epsilon {privacy['epsilon']:g} at delta {privacy['delta']:g} a {privacy['unit']} and institution; "
            f"{privacy['guarantee']}."
        )
    digest = str(summary["model_sha256"])[:12]
    return [*lines, f"{summary['rounds']} rounds in {summary['seconds']} s; model {digest} and all else in {run_dir}"]


__all__ = ["main"]
