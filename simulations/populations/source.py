"""Where the records of a population come from whose institutions are made on demand."""

from typing import Protocol

from datasets import Dataset


class RecordSource(Protocol):
    """The raw records of every institution of a population, made when one is asked for.

    A source keeps no records and lists nobody: what it holds does not grow with the population. The
    same index has the same records whenever, in whichever order and in whichever process it is
    asked for.
    """

    @property
    def num_institutions(self) -> int:
        """How many institutions there are, at least 1."""

    def name(self, index: int) -> str:
        """The name of an institution.

        Args:
            index: Its number, from 0 to `num_institutions` - 1.

        Returns:
            A name that no other index has, above the names of smaller indices in the order of
            text, so that a cohort drawn by number is the one drawn from a list of sorted names:
            numbers are padded, such as `client-0000017` of a million.
        """

    def index(self, name: str) -> int:
        """The number of an institution, the inverse of `name`.

        Args:
            name: What `name` gives for an index.

        Returns:
            Its number, from 0 to `num_institutions` - 1.

        Raises:
            KeyError: If nobody has that name.
        """

    def num_records(self, index: int) -> int:
        """How many records an institution has before any is held out, told without making them.

        Args:
            index: Its number, from 0 to `num_institutions` - 1.

        Returns:
            The length of `records(index)`, at least 1.
        """

    def records(self, index: int) -> Dataset:
        """The raw records of one institution, made or read now.

        Args:
            index: Its number, from 0 to `num_institutions` - 1.

        Returns:
            Its records, columns as the task's settings name them, the same at every call.
        """
