"""xgboost's JSON from others' hands, checked before xgboost follows it.

xgboost takes numbers of nodes and inputs as they stand: with others than there are it reads memory
that is not the model's, and a tree that leads back to its root ends the process.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from confide.errors import ModelError

PER_NODE = (
    "left_children",
    "right_children",
    "parents",
    "split_indices",
    "split_conditions",
    "split_type",
    "default_left",
    "base_weights",
    "loss_changes",
    "sum_hessian",
)
"""What a tree says of each node."""
_LEAF = (-1, -1)


def read_trees(path: Path) -> bytearray:
    """Read a file of trees whose every path ends in a leaf, by inputs that there are.

    Returns:
        The file, as xgboost loads it.

    Raises:
        ModelError: if it is not such a file.
    """
    try:
        data = path.read_bytes()
        _check_learner(json.loads(data)["learner"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(
            f"{path} holds no trees as confide exports them ({type(error).__name__}: {error});"
            " export it anew."
        ) from None
    return bytearray(data)


def _check_learner(learner: Mapping[str, Any]) -> None:
    booster, sizes = learner["gradient_booster"], learner["learner_model_param"]
    model = booster["model"]
    trees, told = model["trees"], model["gbtree_model_param"]
    features, groups = len(learner["feature_names"]), max(int(sizes["num_class"]), 1)
    _expect(booster["name"] == "gbtree", "gradient_booster.name is not gbtree")
    _expect(sizes["num_feature"] == str(features), "num_feature is not that of feature_names")
    _expect(sizes["num_target"] == "1", "num_target is not 1")
    _expect(told == {"num_trees": str(len(trees)), "num_parallel_tree": "1"}, "num_trees differs")
    _expect(groups <= len(trees), "num_class is more than there are trees")
    _expect(
        len(model["tree_info"]) == len(trees) and _within(model["tree_info"], 0, groups),
        "tree_info is not a class a tree",
    )
    ends = model["iteration_indptr"]
    _expect(
        ends == sorted(ends) and _within(ends, 0, len(trees) + 1) and ends[-1:] == [len(trees)],
        "iteration_indptr does not end with the trees",
    )
    for number, tree in enumerate(trees):
        _check_tree(tree, features, f"tree {number}: ")


def _check_tree(tree: Mapping[str, Any], features: int, where: str) -> None:
    count, param = len(tree["left_children"]), tree["tree_param"]
    _expect(count > 0 and all(len(tree[it]) == count for it in PER_NODE), f"{where}sizes differ")
    _expect(
        (param["num_nodes"], param["num_feature"]) == (str(count), str(features))
        and (param["num_deleted"], param["size_leaf_vector"]) == ("0", "1"),
        f"{where}tree_param is not of its nodes",
    )
    _expect(
        not any(tree["split_type"])
        and not any(tree[name] for name in tree if name.startswith("categories")),
        f"{where}a split is not by a number",
    )
    _expect(_within(tree["split_indices"], 0, features), f"{where}split_indices is no input")
    for node, pair in enumerate(zip(tree["left_children"], tree["right_children"], strict=True)):
        # Children come after their node: no path leads back
        is_inside = pair == _LEAF or _within(pair, node + 1, count)
        _expect(is_inside, f"{where}node {node} leads to none of its later nodes")


def _within(values: Sequence[Any], least: int, end: int) -> bool:
    return all(type(value) is int and least <= value < end for value in values)


def _expect(is_so: bool, problem: str) -> None:
    if not is_so:
        raise ValueError(problem)


__all__ = ["PER_NODE", "read_trees"]
