"""``model_card.md``: a model card with a privacy statement, in Hugging Face's form.

Model cards: Mitchell et al., "Model Cards for Model Reporting", FAccT 2019.
"""

from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from confide.config.outcomes.outcome import DEFAULT_OUTCOME
from confide.config.outcomes.table import OUTCOMES
from confide.config.tasks.table import TASKS
from confide.metrics.metric import NOISE_QUANTILE, noise_name
from confide.server.report import sentences
from confide.server.report.guarantee import guarantee, meaning
from confide.server.report.read import RunFiles
from confide.server.report.render import number, render
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


def model_card(run: RunFiles) -> str:
    """Render the model card of a run that has a model: Markdown, after the metadata of hubs."""
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
        spent="nothing" if spent is None else f"{spent:.3g}",
        intended=sentences.intended(run),
        weak=sentences.weakest(run),
        digest=summary["model_sha256"],
        lineage=[*lineage_sentences(summary), *release_sentences(summary)],
        parents=[{**one, "cost": cost_of(one)} for one in parents_in(summary)],
        versions=summary.get("versions", {}),
    )


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
    private = ["differential-privacy"] if run.private else []
    # Hubs accept only the kinds of task that they know
    extra: dict[str, Any] = {} if tag is None else {"pipeline_tag": tag}
    return ModelCardData(
        model_name=name,
        library_name="confide",
        tags=["federated-learning", *private],
        metrics=list(metrics),
        eval_results=results or None,
        **extra,
    )


__all__ = ["model_card"]
