"""Recommenders, exported."""

from pathlib import Path
from typing import cast

from torch import nn

from confide.config.models.items import ItemsConfig
from confide.inference.exporter import OwnExporter, load_classifier, write_classifier
from confide.inference.modeling_confide_items import ConfideForRecommendation, ConfideItemsConfig
from confide.models.backbones import find_backbone
from confide.models.encoders.items import copy_items
from confide.models.recommender import SCALE, Recommender
from confide.models.workload import Workload
from confide.protocol.plan import TrainingPlan


class ItemsExporter(OwnExporter):
    """Writes and loads recommenders; ids and texts of items lie beside them."""

    def write_beside(self, folder: Path, plan: TrainingPlan) -> None:
        """Write ids, texts and vectors."""
        copy_items(find_backbone(cast(ItemsConfig, plan.backbone)), folder)

    def write_folder(
        self, folder: Path, workload: Workload, plan: TrainingPlan, *, keep_adapter: bool
    ) -> None:
        """Fill a folder that transformers loads."""
        model = cast(Recommender, workload.model)
        config = ConfideItemsConfig(
            items=model.item.out_features,
            dimensions=model.user.in_features // 2,
            width=model.user.out_features,
            recent=model.recent,
            repeats=model.repeats,
            scale=SCALE,
        )
        made = ConfideForRecommendation
        classes = {"AutoConfig": ConfideItemsConfig, "AutoModel": made}
        write_classifier(folder, config, model.state_dict(), plan=plan, classes=classes)
        self.write_beside(folder, plan)

    def load_folder(self, folder: Path) -> nn.Module:
        """Load such a folder."""
        return load_classifier(folder, ConfideForRecommendation, ConfideItemsConfig)


__all__ = ["ItemsExporter"]
