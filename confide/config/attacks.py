"""Settings of attacks in a simulation, and their table. No torch is imported."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from confide.config.fields import setting


@dataclass(frozen=True, kw_only=True)
class AttackKind:
    """One attack.

    Attributes:
        forge: dotted path of what makes hostile updates of everybody's; empty where none are made.
        poison: dotted path of what changes hostile institutions' training records; empty where
            none are changed.
        scale: meaning of the setting ``scale``, and what null stands for.
    """

    forge: str = ""
    poison: str = ""
    scale: str = "not used"


_UPDATES, _RECORDS = "confide.simulations.attacks.updates", "confide.simulations.attacks.records"

ATTACKS: Mapping[str, AttackKind] = {
    "none": AttackKind(),
    "sign_flip": AttackKind(
        forge=f"{_UPDATES}.sign_flip", scale="factor of the turned update; null: 4"
    ),
    "gaussian": AttackKind(
        forge=f"{_UPDATES}.gaussian",
        scale="standard deviation over the honest updates' root mean square; null: 10",
    ),
    "alie": AttackKind(
        forge=f"{_UPDATES}.a_little_is_enough",
        scale="standard deviations from the honest mean; null: the paper's for n and f",
    ),
    "inner_product": AttackKind(
        forge=f"{_UPDATES}.inner_product", scale="factor of the turned honest mean; null: 0.5"
    ),
    "min_max": AttackKind(forge=f"{_UPDATES}.min_max"),
    "label_flip": AttackKind(poison=f"{_RECORDS}.label_flip"),
    "backdoor": AttackKind(
        forge=f"{_UPDATES}.scaled",
        poison=f"{_RECORDS}.backdoor",
        scale="factor of the hostile updates; null: institutions over hostile ones",
    ),
}
"""``simulation.attack.kind`` -> what it does."""


@dataclass
class AttackConfig:
    """Institutions that work against the federation, to try what rules withstand."""

    kind: str = setting("none", "What hostile institutions do.", choices=ATTACKS)
    num_clients: int = setting(
        1, "Number of hostile institutions, drawn from the seed where clients is empty.", ge=1
    )
    clients: list[str] = setting(list, "Names of the hostile institutions; empty: num_clients.")
    scale: float | None = setting(
        None,
        "Strength: "
        + "; ".join(
            f"{name}: {kind.scale}" for name, kind in ATTACKS.items() if "null" in kind.scale
        )
        + ".",
        gt=0,
        le=1e6,
    )
    target: str | None = setting(
        None, "Class that a backdoor's trigger leads to; null: the task's last one."
    )
    share: float = setting(
        0.5, "Share of hostile training records that a backdoor's trigger is put into.", gt=0, le=1
    )

    @property
    def is_on(self) -> bool:
        """Whether anybody is hostile."""
        return self.kind != "none"

    @property
    def poisons(self) -> bool:
        """Whether training records are changed."""
        return bool(ATTACKS[self.kind].poison)

    @property
    def forges(self) -> bool:
        """Whether updates are replaced."""
        return bool(ATTACKS[self.kind].forge)

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if len(set(self.clients)) < len(self.clients):
            yield f"clients={self.clients} names somebody twice; name each once."

    def client_problems(self, clients: int, there: str) -> Iterator[str]:
        """Yield that nobody honest would be left.

        Args:
            clients: how many there are.
            there: what sets this number, for the sentence.
        """
        count = len(self.clients) or self.num_clients
        if self.is_on and count >= clients:
            yield (
                f"simulation.attack.num_clients={count}: with {there} nobody honest is left;"
                " lower it."
            )

    def label_problems(
        self, labels: Sequence[str], outcome: str, *, has_classes: bool
    ) -> Iterator[str]:
        """Yield that the task has not the classes that records are changed to.

        Args:
            labels: of the task.
            outcome: its kind.
            has_classes: whether records have labels.
        """
        if self.poisons and not has_classes:
            yield (
                f"simulation.attack.kind={self.kind} changes labels, and"
                f" task.outcome.kind={outcome} has no classes; choose an attack on updates, such as"
                " simulation.attack.kind=sign_flip."
            )
        elif self.kind == "backdoor" and self.target is not None and self.target not in labels:
            yield f"simulation.attack.target={self.target}: expected one of {', '.join(labels)}."


__all__ = ["ATTACKS", "AttackConfig", "AttackKind"]
