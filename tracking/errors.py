"""The one error tree.

    StartlineError                  exit code
    ├── ConfigError                 2   the request itself is wrong (all faults at once)
    ├── InputError                  2   something the request needs is missing or unusable
    │   ├── UnreachableError        2   hub away, and neither mirror nor cache has it
    │   ├── TaskDataError           2   a data set that cannot be used as it is
    │   ├── CheckpointError         2   a checkpoint that cannot be used as it is
    │   └── TableError              2   a result table or published file that cannot be read
    ├── QuorumError                 1   too few of what was to be combined came to be
    └── InfrastructureError         3   the machine or a service failed us
        ├── StoreError              3   the tracking store is locked, away or damaged
        ├── StorageError            3   disk full or folder unwritable
        └── ClusterError            3   Ray could not be started or reached

A message says what came, what was expected and what to do; the values stand as attributes too.
Maths (analysis/) raises plain ``ValueError``.
"""

from __future__ import annotations

from collections.abc import Sequence


class StartlineError(Exception):
    """Root of every error that a user can act on.

    ``retryable`` says whether the same call may succeed later without anybody changing anything.
    """

    exit_code = 3
    retryable = False

    def __init__(self, message: str, **values: object) -> None:
        super().__init__(message)
        self.message = message
        self.values = values
        for name, value in values.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.values)


def _rebuild(cls: type[StartlineError], message: str, values: dict[str, object]) -> StartlineError:
    """Unpickle an error (Ray carries them between processes)."""
    error = cls.__new__(cls)
    StartlineError.__init__(error, message, **values)
    return error


class ConfigError(StartlineError):
    """The request is wrong; ``faults`` lists every fault found, each with its dotted path."""

    exit_code = 2

    def __init__(self, faults: Sequence[str] | str) -> None:
        self.faults = [faults] if isinstance(faults, str) else list(faults)
        head = "1 fault" if len(self.faults) == 1 else f"{len(self.faults)} faults"
        lines = "\n".join(f"  - {fault}" for fault in self.faults)
        super().__init__(f"configuration: {head}\n{lines}", faults=self.faults)


class InputError(StartlineError):
    """Something the request needs is missing or unusable."""

    exit_code = 2


class UnreachableError(InputError):
    """The hub cannot be reached and nothing local holds what was asked for."""

    retryable = True


class TaskDataError(InputError):
    """A data set cannot be used as it is (column, split, label)."""


class CheckpointError(InputError):
    """A checkpoint cannot be used as it is (format, tokenizer, architecture, damage)."""


class TableError(InputError):
    """A result table or a published file cannot be read."""


class QuorumError(StartlineError):
    """Too few of the parts came to be for a whole to be made of them; what came is kept."""

    exit_code = 1
    retryable = True


class InfrastructureError(StartlineError):
    """The machine or a service failed us; nothing that was finished is lost."""

    exit_code = 3
    retryable = True


class StoreError(InfrastructureError):
    """The tracking store is locked, away or damaged."""


class StorageError(InfrastructureError):
    """Disk full, or a folder that cannot be written."""


class ClusterError(InfrastructureError):
    """Ray could not be started or reached."""
