"""`make licenses`: every task with its source, its licence and what has to be known about it, as one Markdown table.

python -m ray_app.commands.licenses                      print the table
python -m ray_app.commands.licenses --page docs/tasks.md  write it between the marks of a page
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ray_app.hub.task_yaml import read_task_configs
from ray_app.hub.tasks import TaskConfig
from tracking.errors import ConfigError, StartlineError, StorageError

TASK_FOLDER = Path(__file__).resolve().parents[2] / "conf" / "task"
"""The tasks of this checkout."""

BEGIN = "<!-- task table: begin (made by ray_app/commands/licenses.py) -->"
END = "<!-- task table: end -->"

_HEADER = ("task", "hub id", "config", "metric", "classes", "licence", "notes")


def render_task_table(configs: Iterable[TaskConfig]) -> str:
    """Markdown table of tasks, one row each in the order given, ending in a line break.

    A task without a hub id shows '-' for it, a regression task for its classes; a pinned revision stands behind the id as
    its first 8 hex digits.
    """
    rows = [_HEADER, tuple("---" for _ in _HEADER), *(_row(config) for config in configs)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def replace_table(page: str, table: str) -> str:
    """The page with the table put between its two marks.

    Raises:
        ConfigError: a mark is missing, or they stand in the wrong order.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ConfigError(f"the page has no place for the task table; put the lines {BEGIN!r} and {END!r} into it")
    return f"{head}{BEGIN}\n\n{table}\n{END}{tail}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, or write it into a page; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m ray_app.commands.licenses", description="Tasks and their licences."
    )
    parser.add_argument("--tasks", type=Path, default=TASK_FOLDER, help="folder of task YAML files")
    parser.add_argument("--page", type=Path, help="Markdown page to write the table into, between its marks")
    options = parser.parse_args(arguments)
    try:
        table = render_task_table(read_task_configs(options.tasks).values())
        if options.page is None:
            sys.stdout.write(table)
        else:
            _rewrite(options.page, table)
    except StartlineError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _row(config: TaskConfig) -> tuple[str, ...]:
    source = "-" if config.hub_id is None else f"`{config.hub_id}`"
    if config.revision is not None:
        source += f" @ {config.revision[:8]}"
    classes = "-" if config.is_regression else str(len(config.label_names))
    cells = (
        config.name,
        source,
        config.config or "-",
        config.metric.value,
        classes,
        config.license,
        config.notes or "-",
    )
    return tuple(" ".join(cell.replace("|", "\\|").split()) for cell in cells)


def _rewrite(path: Path, table: str) -> None:
    try:
        page = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; give a page that exists") from error
    try:
        path.write_text(replace_table(page, table), encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror}; free space or change its permissions"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
