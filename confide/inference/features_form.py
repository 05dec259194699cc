"""Perceptrons on rows of numbers, exported."""

from pathlib import Path

from torch import nn

from confide.inference.exporter import OwnExporter, load_classifier, write_classifier
from confide.inference.modeling_confide_tabular import (
    ConfideForTabularClassification,
    ConfideTabularConfig,
)
from confide.models.workload import Workload
from confide.protocol.plan import TrainingPlan


class FeaturesExporter(OwnExporter):
    """Writes and loads perceptrons; columns are encoded by the schema in ``confide.json``."""

    def write_folder(
        self, folder: Path, workload: Workload, plan: TrainingPlan, *, keep_adapter: bool
    ) -> None:
        """Fill a folder that transformers loads."""
        # A model holds no config: its widths are read off its layers.
        linear = [layer for layer in workload.model.modules() if isinstance(layer, nn.Linear)]
        widths = [linear[0].in_features, *(layer.out_features for layer in linear)]
        made = ConfideForTabularClassification
        classes = {
            "AutoConfig": ConfideTabularConfig,
            "AutoModel": made,
            "AutoModelForSequenceClassification": made,
        }
        pairs = [list(span) for span in getattr(workload.model, "pairs", ())]
        config = ConfideTabularConfig(
            widths=widths, row_norm=plan.backbone.row_norm, pairs=pairs or None
        )
        write_classifier(folder, config, workload.model.state_dict(), plan=plan, classes=classes)

    def load_folder(self, folder: Path) -> nn.Module:
        """Load such a folder."""
        return load_classifier(folder, ConfideForTabularClassification, ConfideTabularConfig)


__all__ = ["FeaturesExporter"]
