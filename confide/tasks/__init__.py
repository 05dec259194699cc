"""Tasks: one file each, behind :class:`~confide.tasks.task.Task`."""
