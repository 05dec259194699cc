"""The table and lines that end a run on a terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from confide.config.spelling import counted
from confide.config.tasks.table import known_metrics
from confide.metrics.metric import NOISE_QUANTILE, noise_name
from confide.server.personal.compared import closing_line
from confide.server.run.lineage_words import lineage_sentences, release_sentences
from confide.server.run.many import LOCAL, LOCAL_OWN, QUANTILES
from confide.server.run.sums import known_together, sums_sentences
from confide.tables import Table

_TOLD = 20
"""Lines on who was missing; ``summary.json`` names all."""


def closing_table(summary: Mapping[str, Any]) -> Table:
    """Build the table that ends a run: a row an institution, or quantiles of many."""
    if "institutions" in summary:
        return _quantile_table(summary)
    metric, private = summary["primary_metric"], summary["privacy"]["unit"] != "none"
    local, summed = summary["baselines"].get("local", {}), known_together(summary)
    # A deployed institution declares its training records and no others.
    deployed = any("records" not in client for client in summary["clients"].values())
    # Nobody has the test records of a deployment in one place, so that only a mean can be shown.
    title, short = f"{metric} on pooled and on own test records", "pooled"
    if deployed or "measured" in summary["federated"]:
        title, short = f"{metric} on own test records, and the mean of all", "mean"
        title = f"{metric} on the test records of all, from a masked sum" if summed else title
    headers = [
        "institution",
        "training\nrecords" if deployed else "records",
        *([f"local\nmodel,\n{short}"] if local else []),
        f"federated\nmodel,\n{short}",
    ]
    headers += [
        *(["local\nmodel,\nown"] if local else []),
        *([] if summed else ["federated\nmodel,\nown"]),
        *(["epsilon"] if private else []),
    ]
    table = Table(*headers, numbers=headers[1:], title=title)
    for name, client in summary["clients"].items():
        baseline = local.get(name, {})
        row = [
            " ".join(name.split()),
            str(client.get("records", client["num_examples"])),
            *([_cell(baseline.get(metric))] if local else []),
            _cell(summary["federated"].get(metric)) + _noise(summary["federated"], metric),
        ]
        row += [
            *([_cell(baseline.get("own_test", {}).get(metric))] if local else []),
            *([] if summed else [_cell(client.get(metric)) + _noise(client, metric)]),
        ]
        table.add_row(*row, *([f"{client['epsilon']:.2f}"] if private else []))
    return table


def _quantile_table(summary: Mapping[str, Any]) -> Table:
    """Build a table of how figures are distributed over many institutions."""
    many, metric = summary["institutions"], summary["primary_metric"]
    rows = {
        "training records": "num_examples",
        f"{metric}, local model, pooled": f"{LOCAL}{metric}",
        f"{metric}, local model, own": f"{LOCAL_OWN}{metric}",
        f"{metric}, federated model, own": metric,
        "epsilon": "epsilon",
        "rounds": "rounds",
    }
    headers = ["figure", "institutions", *QUANTILES]
    title = f"{many['count']:,} institutions, test records of each or pooled"
    table = Table(*headers, numbers=headers[1:], title=title)
    for header, name in rows.items():
        one = many["figures"].get(name)
        if one is not None:
            counts = name in ("num_examples", "rounds")
            cells = [f"{one[it]:.0f}" if counts else f"{one[it]:.3f}" for it in QUANTILES]
            table.add_row(header, f"{one['institutions']}", *cells)
    return table


def _weakest(summary: Mapping[str, Any]) -> list[str]:
    """Return a line on the few of many institutions for whom the model is worst."""
    if "institutions" not in summary:
        return []
    many, metric = summary["institutions"], summary["primary_metric"]
    worst = [f"{name} {summary['clients'][name][metric]:.3f}" for name in many["worst"]]
    named = f"Weakest on their own test records: {', '.join(worst)}; all" if worst else "All"
    return [f"{named} {many['count']:,} institutions in {many['file']}."]


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _noise(line: Mapping[str, Any], metric: str) -> str:
    """Return the 95 % interval of a metric's noise, as text; '' for an exact value."""
    noise = line.get(noise_name(metric))
    return "" if noise is None else f" ± {NOISE_QUANTILE * noise:.3f}"


def _intervals(summary: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Return a line with the 95 % intervals of metrics; nothing where none is known."""
    metrics = summary.get("evaluation", {}).get("metrics", {})
    known = [
        f"{name} {ends[0]:.3f} to {ends[1]:.3f}"
        for name in names
        if (ends := metrics.get(name, {}).get("interval"))
    ]
    return [f"95 % intervals: {', '.join(known)}."] if known else []


def _sampled(summary: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Return a line on institutions that were drawn to score the model; nothing without any."""
    if "sample" not in summary:
        return []
    sample = summary["sample"]
    told = []
    for name in names:
        one = sample["metrics"].get(name, {})
        if one.get("interval"):
            low, high = one["interval"]
            told.append(f"{name} {one['mean']:.3f}, 95 % {low:.3f} to {high:.3f}")
    where = f"{sample['scored']:,} of {sample['institutions']:,} institutions, drawn at random"
    return [f"Mean over {where}: {'; '.join(told)}."] if told else []


def _hostile(summary: Mapping[str, Any]) -> list[str]:
    """Return a line on a simulated attack; none where there was none."""
    attack = summary.get("attack")
    if not attack:
        return []
    names = attack["clients"]
    shown = ", ".join(names[:_TOLD]) + ", ..." * (len(names) > _TOLD)
    line = f"Hostile in this simulation ({attack['kind']}): {shown}."
    if "success" in attack:
        line += (
            f" The trigger led {attack['success']:.0%} of {attack['records']} test records to its"
            f" target, {attack['without_trigger']:.0%} went there without it."
        )
    return [line]


def _of_clients(summary: Mapping[str, Any]) -> list[str]:
    """Return a line on what the models cost a client as a whole; none without such a promise."""
    told = summary.get("client_privacy")
    if not told:
        return []
    spent = "no bound, without noise" if told["epsilon"] is None else f"{told['epsilon']:.3g}"
    return [
        f"Privacy of whole clients: epsilon {spent} at delta {told['delta']:g};"
        f" {told['guarantee']}."
    ]


def _committed(summary: Mapping[str, Any]) -> list[str]:
    """Return a line on lifetime budgets; none where there are no ledgers, or too many to name."""
    clients = summary["clients"].items()
    budgets = {name: client["budget"] for name, client in clients if "budget" in client}
    if not budgets or "institutions" in summary:
        return []
    committed = ", ".join(
        f"{name} {budget['committed']:.2f} of {budget['epsilon']:g}"
        for name, budget in budgets.items()
    )
    return [f"Lifetime epsilon committed: {committed}."]


def _missing(summary: Mapping[str, Any]) -> list[str]:
    """Return a line for each client and reason, however many rounds it missed."""
    without: dict[str, list[str]] = {}
    for server_round, missing in summary["failures"].items():
        for name, code in missing.items():
            without.setdefault(f"{name} ({code})", []).append(server_round)
    gone = [f"Without {who} in round {', '.join(rounds)}." for who, rounds in without.items()]
    return gone[:_TOLD] + ([f"{len(gone) - _TOLD} more in summary.json."] if gone[_TOLD:] else [])


def closing_lines(summary: Mapping[str, Any], run_dir: Path) -> list[str]:
    """Return lines on the scores, the cost in privacy, and the folder of a run."""
    metric, federated, privacy = summary["primary_metric"], summary["federated"], summary["privacy"]
    assert isinstance(federated, dict)
    assert isinstance(privacy, dict)
    known = known_metrics()
    weights = {one.weighed_by for one in known.values()}
    shown = [name for name in federated if name == metric or name in known.keys() - weights]
    scores = ", ".join(f"{name} {federated[name]:.3f}{_noise(federated, name)}" for name in shown)
    where = (
        "pooled test records"
        if "measured" not in federated
        else f"test records, {federated['measured']}"
    )
    lines = [f"Federated model, {federated['test_examples']} {where}: {scores}."]
    if not federated["test_examples"]:  # then there is no score to show
        kept = (
            "no institution lets metrics on its test records leave"
            if "measured" in federated
            else "no records for test"
        )
        lines = [f"Federated model: {kept}."]
    lines += _intervals(summary, shown) + _sampled(summary, shown)
    lines += _weakest(summary)
    if "scores" in privacy:
        lines.append("Institutions release scores with noise; ± is its 95 % interval.")
    pooled = summary["baselines"].get("pooled", {}).get(metric)
    if pooled is not None:
        lines.append(f"Pooled, all records in one place: {metric} {pooled:.3f}.")
    lines += lineage_sentences(summary) + release_sentences(summary)
    lines += closing_line(summary) + sums_sentences(summary) + _hostile(summary)
    if "virtual" in summary:
        lines.append(
            f"{summary['rounds']} rounds took {summary['virtual']['seconds']:.4g} virtual s."
        )
    if privacy["unit"] != "none":
        lines.append(
            f"Privacy: epsilon {privacy['epsilon']:g} at delta {privacy['delta']:g} a"
            f" {privacy['unit']} and institution; {privacy['guarantee']}."
        )
    if "with_peers" in privacy:
        lines.append(f"Masked sums: {privacy['with_peers']['sentence']}.")
    lines += _of_clients(summary)
    lines += [f"Of it: {privacy[name]}." for name in ("edges", "gram") if name in privacy]
    lines += _committed(summary) + _missing(summary)
    lines += [
        f"{name} withdrew after round {it['after_round']}; of it stays in the run: {it['stays']}."
        for name, it in summary.get("withdrawn", {}).items()
    ]
    return [
        *lines,
        f"{counted(int(str(summary['rounds'])), 'round')} in {summary['seconds']} s; model"
        f" {str(summary['model_sha256'])[:12]}, report.html and all else in {run_dir}",
    ]


__all__ = ["closing_lines", "closing_table"]
