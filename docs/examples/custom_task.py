"""A task of your own on a table's schema.

The focal loss, for rare labels (Lin et al., ICCV 2017, arXiv 1708.02002).

confide simulate experiment=heart_disease task._target_=custom_task.Focal task.kwargs='{gamma: 1.5}'
"""

from torch import Tensor

from confide.config.tasks.tabular import TabularConfig
from confide.tasks.tabular import Tabular
from confide.tasks.task import Batch


class Focal(Tabular):
    """Records that are predicted well weigh little.

    Under privacy, a record's loss depends on no other record.
    """

    def __init__(self, config: TabularConfig, *, gamma: float = 2.0) -> None:
        super().__init__(config)
        self.gamma = gamma

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the loss of each record, shape [b]."""
        cross_entropy = super().loss(outputs, batch)
        return (1 - (-cross_entropy).exp()) ** self.gamma * cross_entropy
