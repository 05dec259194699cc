"""The figures of what a run cost: bytes and time."""

from confide.pages.figures import FEDERATED, INK, MUTED, Picture, legend, new_axes, picture
from confide.server.report.marks import rounds_axis
from confide.server.report.read import RunFiles


def bytes_moved(run: RunFiles) -> Picture | None:
    """Draw the bytes sent in each round, in both directions."""
    up, down = (
        run.rounds_of(f"bytes_{way}", "train").set_index("round")["value"] for way in ("up", "down")
    )
    if up.empty:
        return None
    largest = max(up.max(), down.max())
    units = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10), ("B", 1))
    unit, factor = next((unit, size) for unit, size in units if largest >= size or size == 1)
    figure, axes = new_axes(2.4)
    axes.plot(
        down.index, down / factor, color=MUTED, linestyle="--", label="models to institutions"
    )
    axes.plot(up.index, up / factor, color=FEDERATED, label="updates to the coordinator")
    axes.set(xlabel="round", ylabel=unit)
    axes.set_ylim(bottom=0)
    rounds_axis(axes, up.index)
    legend(axes, "lower right")
    return picture(
        "bytes",
        figure,
        title="Data transferred, round by round",
        caption="Tensors only, summed over all institutions.",
    )


def seconds(run: RunFiles) -> Picture | None:
    """Draw the time of each phase."""
    phases = {name: value for name, value in run.summary.get("phases", {}).items() if value}
    if not phases:
        return None
    figure, axes = new_axes(0.8 + 0.3 * len(phases))
    names = list(reversed(phases))
    bars = axes.barh(
        range(len(names)), [phases[name] for name in names], height=0.55, color=FEDERATED, alpha=0.8
    )
    axes.bar_label(bars, fmt="%.1f s", padding=4, color=INK)
    axes.set_yticks(range(len(names)), names)
    axes.margins(x=0.16)
    axes.set_xlabel("seconds")
    axes.grid(visible=False, axis="y")
    return picture(
        "seconds",
        figure,
        title="Time in each phase",
        caption="Elapsed time; for a resumed run, that of earlier processes too.",
    )


__all__ = ["bytes_moved", "seconds"]
