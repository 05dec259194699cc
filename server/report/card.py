"""``model_card.md``: a model card with a privacy statement, in Hugging Face's form.

Model cards: Mitchell et al., "Model Cards for Model Reporting", FAccT 2019.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from confide.config.outcomes.outcome import DEFAULT_OUTCOME
from confide.config.outcomes.table import OUTCOMES
from confide.config.tasks.table import TASKS
from confide.metrics.metric import NOISE_QUANTILE, noise_name
from confide.server.report import sentences
from confide.server.report.guarantee import guarantee, meaning
from confide.server.report.handed_over import handed_over
from confide.server.report.marks import NAMED
from confide.server.report.read import RunFiles
from confide.server.report.render import number, plain, render
from confide.server.report.sections.audit import audit_section
from confide.server.report.sections.curves import curves_of_columns
from confide.server.report.sections.evaluation import evaluation_card
from confide.server.report.sections.inputs import most_used
from confide.server.run.lineage_words import (
    cost_of,
    lineage_sentences,
    parents_in,
    release_sentences,
)
from confide.server.run.sums import sums_sentences

_FEWEST = 2
_SPDX = re.compile(r"[A-Za-z0-9.+-]+")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def model_card(run: RunFiles) -> str:
    """Render the model card of a run that has a model: Markdown, after the metadata of hubs.

    It is for whoever the model is handed to: institutions are numbered, unless
    ``report.card.name_institutions``, and no path of this machine is in it.
    """
    said = run.config.get("report", {}).get("card", {})
    run = handed_over(run, named=bool(said.get("name_institutions", False)))
    summary, federated = run.summary, run.summary["federated"]
    metrics = {
        name: value for name, value in federated.items() if name in run.config["task"]["metrics"]
    }
    spent = run.largest_epsilon
    return render(
        "model_card.md.j2",
        metadata=_metadata(run, metrics).to_yaml(),
        name=summary["job"],
        purpose=sentences.purpose(run),
        records=sentences.records(run),
        institutions=sentences.institutions(run),
        outcome=sentences.outcome(run),
        guarantee=guarantee(run),
        metrics=[
            (name, _with_noise(value, federated.get(noise_name(name))))
            for name, value in metrics.items()
        ],
        support=federated.get("test_examples", 0),
        where=federated.get("measured", "test records of all institutions together"),
        private=run.private,
        privacy=summary["privacy"],
        meaning=meaning(run) if run.private else "",
        audit=audit_section(run.folder),
        evaluation=evaluation_card(run),
        curves=curves_of_columns(run.folder),
        trained=sentences.training(run),
        aggregation=" ".join(sums_sentences(summary)),
        uses=most_used(run),
        claimed=summary.get("lineage", {}).get("claimed"),
        spent="nothing" if spent is None else f"{spent:.3g}",
        intended=sentences.intended(run),
        said=said,
        sites=_sites(run),
        energy=_energy(summary.get("energy", {})),
        lineage=lineage_rows(summary),
        weak=sentences.weakest(run),
        origin=[*lineage_sentences(summary), *release_sentences(summary)],
        parents=[{**one, "cost": cost_of(one)} for one in parents_in(summary)],
        versions=summary.get("versions", {}),
    )


def _sites(run: RunFiles) -> Sequence[Sequence[str]]:
    """Return the rows of a table of metrics at each institution, the header first; [] for none."""
    lines = {name: one for name, one in run.clients.items() if run.metric in one}
    if run.many or run.summed or len(lines) < _FEWEST or len(lines) > NAMED:
        return []
    names = [
        name for name in run.config["task"]["metrics"] if any(name in it for it in lines.values())
    ]
    rows = [["institution", "test records", *names]]
    for who, line in lines.items():
        cells = [
            _with_noise(line[name], line.get(noise_name(name))) if name in line else "–"
            for name in names
        ]
        rows.append([plain(who), f"{line.get('test_examples', 0):,}", *cells])
    return rows


def _energy(energy: Mapping[str, Any]) -> str:
    """Return sentences on what training computed; '' where nobody counted."""
    if not energy:
        return ""
    each = ", ".join(f"{seconds:,.0f} s by {who}" for who, seconds in energy["cpu_seconds"].items())
    return (
        f"Processors computed for {sum(energy['cpu_seconds'].values()):,.0f} s ({each}). At"
        f" {energy['watts_per_core']:g} W a core and a power usage effectiveness of"
        f" {energy['pue']:g} (report.energy; the rule of Green Algorithms) that is about"
        f" {energy['kwh']:.2g} kWh: an estimate, no meter was read. Not counted:"
        f" {'; '.join(energy['not_counted'])}."
    )


def lineage_rows(summary: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """Return what a model comes from, as rows of name and value."""
    lineage = summary.get("lineage", {})
    rows = [("SHA-256 of the trainable tensors", f"`{summary['model_sha256']}`")]
    names = {
        "plan_sha256": "SHA-256 of the plan that institutions approved",
        "backbone": "backbone",
        "backbone_sha256": "content hash of the backbone",
        "backbone_license": "licence of the backbone, as its folder states it",
    }
    for key, name in names.items():
        if lineage.get(key):
            value = plain(str(lineage[key]))
            rows.append((name, f"`{value}`" if key.endswith("sha256") else value))
    return rows


def _with_noise(value: float, noise: float | None) -> str:
    """Return a metric as text, with the 95 % interval of its noise."""
    return number(value) + ("" if noise is None else f" ± {NOISE_QUANTILE * noise:.3f} (noise)")


def _metadata(run: RunFiles, metrics: dict[str, float]) -> ModelCardData:
    name = str(run.summary["job"])
    task = TASKS.get(run.config["task"]["kind"])
    outcome = sentences.outcome_config(run.config["task"])
    tags = OUTCOMES[outcome.kind].pipeline_tags
    tag = None if task is None else task.pipeline_tag
    if outcome.kind != DEFAULT_OUTCOME:
        tag = tags.get(run.config["task"]["kind"])
    results = [
        EvalResult(
            task_type=tag or "other",
            dataset_type="federated",
            dataset_name=(
                # A deployed run pools no records: its figures are means of institutions' own
                "pooled test records"
                if "measured" not in run.summary["federated"]
                else "institutions' test records"
            ),
            metric_type=metric,
            metric_value=round(value, 4),
        )
        for metric, value in metrics.items()
    ]
    said = run.config.get("report", {}).get("card", {})
    private = ["differential-privacy"] if run.private else []
    # Hubs accept only the kinds of task that they know
    extra: dict[str, Any] = {} if tag is None else {"pipeline_tag": tag}
    extra |= licence_metadata(str(said.get("license", "")))
    name_of_base = base_model(run)
    extra |= {"base_model": name_of_base} if name_of_base else {}
    return ModelCardData(
        model_name=name,
        library_name="confide",
        tags=["federated-learning", *private],
        metrics=list(metrics),
        eval_results=results or None,
        **extra,
    )


def licence_metadata(said: str) -> dict[str, str]:
    """Return the metadata of a licence; {} for one that is not stated.

    Hubs know licences by their SPDX id in lower case; anything else is "other", by its name.

    >>> licence_metadata("Apache-2.0"), licence_metadata("For research, by contract")
    ({'license': 'apache-2.0'}, {'license': 'other', 'license_name': 'for-research-by-contract'})
    """
    if not said:
        return {}
    if _SPDX.fullmatch(said):
        return {"license": said.lower()}
    return {"license": "other", "license_name": "-".join(re.findall(r"[a-z0-9.]+", said.lower()))}


def base_model(run: RunFiles) -> str:
    """Return the backbone's name on the hub; '' where none is known."""
    said = str(run.config.get("report", {}).get("card", {}).get("base_model", ""))
    name = str(run.config.get("backbone", {}).get("name") or "")
    return said or (name if _HUB_NAME.fullmatch(name) and "://" not in name else "")


__all__ = ["base_model", "licence_metadata", "lineage_rows", "model_card"]
