"""The table of methods of attribution."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method of attribution: an entry of :data:`METHODS`.

    Attributes:
        attribute: dotted name of an :data:`~confide.explaining.attribution.AttributeFn`, which is
            imported when first used.
        title: what it is called, for people.
        source: where it was published.
        effort: what the third argument is at first: steps, or samples; 0 where it has none.
        most: largest effort, up to which it is doubled until attributions add up; as ``effort``
            where more does not help that.
        needs_gradient: whether the model has to have a gradient.
        adds_up: whether attributions add up to the difference from the baseline.
    """

    attribute: str
    title: str
    source: str
    effort: int = 0
    most: int = 0
    needs_gradient: bool = False
    adds_up: bool = False


METHODS: dict[str, Method] = {
    "integrated_gradients": Method(
        attribute="confide.explaining.methods.integrated_gradients.integrated_gradients",
        title="integrated gradients",
        source="Sundararajan et al., ICML 2017, arXiv 1703.01365",
        effort=32,
        most=512,
        needs_gradient=True,
        adds_up=True,
    ),
    "gradient_input": Method(
        attribute="confide.explaining.methods.gradient_input.gradient_input",
        title="gradient times the distance from the baseline",
        source="Shrikumar et al., 2016, arXiv 1605.01713",
        needs_gradient=True,
    ),
    "shapley": Method(
        attribute="confide.explaining.methods.shapley.shapley",
        title="Shapley values by sampled orders",
        source="Castro et al., Computers & Operations Research 2009",
        effort=25,
        most=25,
        adds_up=True,
    ),
    "occlusion": Method(
        attribute="confide.explaining.methods.occlusion.occlusion",
        title="occlusion, a unit at a time",
        source="Zeiler and Fergus, ECCV 2014, arXiv 1311.2901",
    ),
}
"""Methods by name; of those that a model allows, the first one is taken where none is named."""


__all__ = ["METHODS", "Method"]
