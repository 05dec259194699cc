"""``model_card.md``: a model card with a privacy statement, in Hugging Face's form.

Model cards: Mitchell et al., "Model Cards for Model Reporting", FAccT 2019.
"""

from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from confide.config.task import TASKS
from confide.server.report import sentences
from confide.server.report.read import RunFiles
from confide.server.report.render import number, render


def model_card(run: RunFiles) -> str:
    """Render a model card.

    Args:
        run: run that has a model.

    Returns:
        Markdown, preceded by the metadata that hubs read.
    """
    summary, federated = run.summary, run.summary["federated"]
    metrics = {
        name: value for name, value in federated.items() if name in run.config["task"]["metrics"]
    }
    privacy = summary["privacy"]
    return render(
        "model_card.md.j2",
        metadata=_metadata(run, metrics).to_yaml(),
        name=summary["job"],
        purpose=sentences.purpose(run),
        records=sentences.records(run),
        institutions=sentences.institutions(run),
        outcome=sentences.outcome(run),
        guarantee=sentences.guarantee(run),
        metrics=[(name, number(value)) for name, value in metrics.items()],
        support=federated.get("test_examples", 0),
        where=federated.get("measured", "test records of all institutions together"),
        private=run.private,
        privacy=privacy,
        meaning=sentences.meaning(run) if run.private else "",
        trained=_training(run),
        spent=_largest_epsilon(run),
        labels=run.config["task"]["labels"],
        weak=_weakest_institution(run),
        digest=summary["model_sha256"],
        versions=summary.get("versions", {}),
    )


def _metadata(run: RunFiles, metrics: dict[str, float]) -> ModelCardData:
    name = str(run.summary["job"])
    task = TASKS.get(run.config["task"]["kind"])
    tag = None if task is None else task.pipeline_tag
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


def _training(run: RunFiles) -> str:
    """Return sentences about where training took place and what left the institutions."""
    if run.summary.get("engine", {}).get("name") == "deployment":
        where = "Each institution trained on its own premises, under its own policy and ledger."
    else:
        where = (
            "Simulated on one machine: the institutions are parts of the records above, each"
            " trained on separately."
        )
    return (
        f"{where} Only updates of trainable tensors left an institution, and what is listed below"
        " as not protected; a coordinator combined the updates by"
        f" {sentences.strategy_name(run.config['strategy'])}."
    )


def _largest_epsilon(run: RunFiles) -> str:
    """Return the largest epsilon that an institution spent."""
    spent = [line["epsilon"] for line in run.clients.values() if "epsilon" in line]
    return f"{max(spent):.3g}" if spent else "nothing"


def _weakest_institution(run: RunFiles) -> str:
    """Return a sentence on the worst result at an institution; '' if fewer than two have one."""
    scored = {name: line[run.metric] for name, line in run.clients.items() if run.metric in line}
    if len(scored) < 2:
        return ""
    choose = min if run.higher_is_better else max
    name = choose(scored, key=lambda name: scored[name])
    support = run.clients[name].get("test_examples")
    return (
        f"The weakest result is on the own test records of {name}: {run.metric}"
        f" {scored[name]:.3f} on {support} records."
    )


__all__ = ["model_card"]
