"""Boosted trees, exported to xgboost: its own JSON, beside a list of what each input is.

xgboost compares numbers in float32 and adds up leaves one after the other, as training did: both
give the same margins. Its library is needed to predict with the folder, and not to write one.
"""

import json
import re
from pathlib import Path
from typing import Any, cast

import numpy
import torch
from torch import Tensor, nn

from confide.config.models.trees import TreesConfig
from confide.config.tasks.tabular import TabularConfig
from confide.config.tasks.task import TaskConfig
from confide.encodings.tree_cells import RAW, thresholds
from confide.errors import ModelError
from confide.inference import packages
from confide.inference.exporter import OwnExporter
from confide.inference.trees_file import PER_NODE, read_trees
from confide.models.trees import depth_of, groups_of, logits_of
from confide.models.workload import Workload
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors, shapes_of

MODEL, INPUTS = "model.json", "inputs.json"
_VERSION = [2, 1, 4]
"""Release of xgboost whose format this is: later ones read it too."""
_EVERY_NUMBER = float(numpy.finfo(numpy.float32).max)
"""What every number is below: only a missing value goes the other way."""
_HALF = 0.5
_ROOT = 2147483647


class TreesExporter(OwnExporter):
    """Writes and loads xgboost's JSON, whose inputs are columns as they are."""

    def encoded_task(self, plan: TrainingPlan, form: str) -> TaskConfig:
        """Return the schema by which records are encoded for a form."""
        return plan.encoded_task.for_trees(RAW) if form == "xgboost" else plan.encoded_task

    def write_folder(
        self, folder: Path, workload: Workload, plan: TrainingPlan, *, keep_adapter: bool
    ) -> None:
        """Fill a folder that xgboost loads."""
        trees = {name: value.detach().cpu() for name, value in workload.model.named_parameters()}
        inputs = _inputs(plan)
        (folder / MODEL).write_text(json.dumps(_learner(trees, inputs, plan)))
        listed = [{k: v for k, v in one.items() if k != "edges"} for one in inputs]
        (folder / INPUTS).write_text(json.dumps(listed, indent=2, ensure_ascii=False) + "\n")

    def load_folder(self, folder: Path) -> nn.Module:
        """Load such a folder by the xgboost that is installed here."""
        return _Booster(folder)


class _Booster(nn.Module):
    """xgboost's own prediction: rows of numbers [b, F] -> logits [b, c]."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        packages.require(packages.TREES, str(folder), extra="trees")
        import xgboost

        self._matrix_fn = xgboost.DMatrix
        self._booster = xgboost.Booster({"nthread": 1})
        try:
            self._booster.load_model(read_trees(folder / MODEL))
        except xgboost.core.XGBoostError as error:
            raise ModelError(
                f"{folder / MODEL} cannot be loaded: {str(error).splitlines()[0]}"
            ) from None

    def forward(self, features: Tensor) -> Tensor:
        """Predict margins."""
        rows = self._matrix_fn(features.cpu().numpy(), feature_names=self._booster.feature_names)
        margins = self._booster.predict(rows, output_margin=True)
        return logits_of(torch.from_numpy(margins).reshape(len(features), -1))


def _inputs(plan: TrainingPlan) -> list[dict[str, Any]]:
    """Describe each input: its name, its column and category, and where its cells meet."""
    task = cast(TabularConfig, plan.encoded_task)
    cells = cast(TreesConfig, plan.backbone).cells
    inputs: list[dict[str, Any]] = []
    for name, column in task.columns.items():
        missing = {"missing_values": list(column.missing_values)}
        if column.kind == "numeric":
            edges = thresholds(cells, column.scale(task.numeric)).tolist()
            inputs.append({"name": name, "column": name, **missing, "edges": edges})
            continue
        named = {category: category for category in column.categories}
        others = {"any other": None} if column.unseen == "other" else {}
        inputs += [
            {
                "name": f"{name}={shown}",
                "column": name,
                "category": category,
                **missing,
                "edges": [_HALF],
            }
            for shown, category in {**named, **others}.items()
        ]
    for number, one in enumerate(inputs):
        # What xgboost takes for no name; a number keeps two that are told apart by it apart
        plain = re.sub(r"[\[\]<]", "_", one["name"])
        one["name"] = plain if plain == one["name"] else f"{plain}#{number}"
    return inputs


def _learner(trees: Tensors, inputs: list[dict[str, Any]], plan: TrainingPlan) -> dict[str, Any]:
    """Write a model as xgboost's own schema has it (doc/model.schema)."""
    classes = plan.task.num_outputs
    groups, rounds = groups_of(classes), len(trees["leaf"])
    edges = [one["edges"] for one in inputs]
    many = groups > 1
    # Margins start at 0: a probability of 1/2 to the logistic objective
    objective: dict[str, Any] = {"name": "binary:logistic", "reg_loss_param": {}}
    if many:
        objective = {
            "name": "multi:softprob",
            "softmax_multiclass_param": {"num_class": str(classes)},
        }
    model = {
        "gbtree_model_param": {"num_trees": str(rounds * groups), "num_parallel_tree": "1"},
        "iteration_indptr": [groups * number for number in range(rounds + 1)],
        "tree_info": [group for _ in range(rounds) for group in range(groups)],
        "trees": [
            _tree(trees, (number, group), edges, number * groups + group)
            for number in range(rounds)
            for group in range(groups)
        ],
    }
    return {
        "version": _VERSION,
        "learner": {
            "attributes": {},
            "feature_names": [one["name"] for one in inputs],
            "feature_types": ["float"] * len(inputs),
            "gradient_booster": {"name": "gbtree", "model": model},
            "learner_model_param": {
                "base_score": "0E0" if many else "5E-1",
                "boost_from_average": "0",
                "num_class": str(classes) if many else "0",
                "num_feature": str(len(inputs)),
                "num_target": "1",
            },
            "objective": objective,
        },
    }


def _tree(
    trees: Tensors, at: tuple[int, int], edges: list[list[float]], number: int
) -> dict[str, Any]:
    """Write one tree; nodes without a split are leaves.

    Args:
        trees: the model's tensors.
        at: which tree, and which group's.
        edges: where each input's cells meet.
        number: among all trees of all groups.
    """
    one = {name: value[at].tolist() for name, value in trees.items() if name != "layout"}
    depth = depth_of(shapes_of(trees))
    nodes: dict[str, list[Any]] = {name: [] for name in PER_NODE}
    waiting = [(0, 0, _ROOT)]  # breadth first, as xgboost numbers nodes
    for place, level, parent in waiting:
        is_split = level < depth and one["split_input"][place] >= 0
        children = (-1, -1)
        value, asked = _leaf(one["leaf"], place, depth - level), 0
        if is_split:
            children = (len(waiting), len(waiting) + 1)
            waiting += [(2 * place + side, level + 1, len(nodes["parents"])) for side in (1, 2)]
            asked, cell = int(one["split_input"][place]), int(one["split_cell"][place])
            value = edges[asked][cell - 1] if cell <= len(edges[asked]) else _EVERY_NUMBER
        row = {
            "left_children": children[0],
            "right_children": children[1],
            "parents": parent,
            "split_indices": asked,
            "split_conditions": _short(value),
            "split_type": 0,
            "default_left": int(is_split and one["missing_left"][place] > 0),
            "base_weights": 0.0 if is_split else _short(value),
            "loss_changes": _short(one["gain"][place]) if is_split else 0.0,
            "sum_hessian": _short(one["cover"][place]),
        }
        for name, entry in row.items():
            nodes[name].append(entry)
    sizes = {"num_nodes": str(len(waiting)), "num_feature": str(len(edges))}
    none: dict[str, list[int]] = {
        f"categories{part}": [] for part in ("", "_nodes", "_segments", "_sizes")
    }
    param = {**sizes, "num_deleted": "0", "size_leaf_vector": "1"}
    return {"id": number, "tree_param": param, **none, **nodes}


def _leaf(values: list[float], place: int, levels: int) -> float:
    """Return the value that a node which nothing splits gives: all goes left below it."""
    for _ in range(levels):
        place = 2 * place + 1
    # Of a node above the leaves this is read and not used
    return values[place - (len(values) - 1)]


def _short(value: float) -> float:
    """Return the shortest decimal that float32 reads back as the same number."""
    return float(str(numpy.float32(value)))


__all__ = ["INPUTS", "MODEL", "TreesExporter"]
