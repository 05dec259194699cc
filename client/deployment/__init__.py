"""An institution's processes: SuperNode, executor, trainer."""
