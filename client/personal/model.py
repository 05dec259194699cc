"""An institution's own model, for the commands that use models.

A run's folder has the global tensors; what an algorithm kept at an institution lies there alone.
Both together are the tensors that this institution predicts with.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from confide.client.algorithm_state import ClientStates
from confide.config.strategies.strategy import ALGORITHMS
from confide.errors import ConfigError, ModelError
from confide.inference.predictor import find_model
from confide.models.compute import Compute
from confide.models.saved import RUN_FORM, load_model, read_description, save_model
from confide.protocol.tensors import Tensors, shapes_of
from confide.storage.files import folder_name
from confide.strategies.parts import build_algorithm

_KIT, _SIMULATED = "client.yaml", "clients"


@contextmanager
def model_of(
    run: Path,
    personal: str | None,
    *,
    custom_tasks: Sequence[str] = (),
    backbone: Path | str | None = None,
) -> Iterator[Path]:
    """Give the folder of the model to use: a run's, or an institution's own for the moment.

    Args:
        run: RUN, ``RUN/model`` or an exported folder.
        personal: whose own model: a name, or the folder of a kit; None: the run's.
        custom_tasks: dotted paths of custom tasks that may be imported.
        backbone: folder of the run's pretrained backbone; None: where it was.

    Raises:
        ConfigError: if the run's institutions have no models of their own, nothing was kept, or
            the run's tensors are no model without what was.
        ModelError: if there is no model, or what was kept does not fit it.
        UnreadableError: if what was kept is damaged.
    """
    place = find_model(run)
    description = read_description(place)
    plan = description.plan
    kind = ALGORITHMS[plan.objective.kind]
    if personal is None:
        if kind.personal == "within" and description.form == RUN_FORM:
            raise ConfigError(
                f"{place} is no model by itself: each institution's {kind.stays} stayed there"
                f" (strategy.objective.kind={plan.objective.kind}). Say whose model to use:"
                " --personal WHERE."
            )
        yield run
        return
    predict_with = build_algorithm(plan.objective).predict_with
    if description.form != RUN_FORM or predict_with is None:
        what = f"strategy.objective.kind={plan.objective.kind} keeps none at institutions"
        if description.form != RUN_FORM:
            what = f"{place} was exported; name the run that it came from"
        raise ConfigError(f"--personal {personal}: there is no model of an institution: {what}.")
    kept = _kept(place.parent, personal, plan.job)
    workload, tensors, _ = load_model(
        place, compute=Compute(), custom_tasks=custom_tasks, backbone=backbone
    )
    own = predict_with(tensors, kept)
    if shapes_of(own) != shapes_of(tensors):
        raise ModelError(
            f"--personal {personal}: what was kept there does not fit the model in {place}; name"
            " the run that it was kept in."
        )
    with tempfile.TemporaryDirectory(prefix="confide-personal-") as folder:
        save_model(Path(folder) / "model", workload, own, plan)
        yield Path(folder)


def _kept(run: Path, personal: str, job: str) -> Tensors:
    """Return what an institution keeps of a job."""
    folder = run / _SIMULATED / folder_name(personal)
    if (Path(personal) / _KIT).is_file():
        from confide.client.deployment.kit import read_kit

        # Mistakes elsewhere in it, such as records that moved, are no matter here
        folder = read_kit(Path(personal))[0].own / "rounds"
    kept = ClientStates(folder, kept=1).load(job, before=sys.maxsize)
    if kept is None:
        there = sorted(path.name for path in (run / _SIMULATED).glob("*"))
        named = f" Institutions there: {', '.join(there[:20])}." if there else ""
        raise ConfigError(
            f"--personal {personal}: {folder} holds nothing of job {job}; name an institution that"
            f" trained in it, or the folder of its kit.{named}"
        )
    return kept


def named(personal: str) -> str:
    """Return the name of an institution, or of a kit's folder, for a folder of its own."""
    return folder_name(Path(personal).name or personal)


__all__ = ["model_of", "named"]
