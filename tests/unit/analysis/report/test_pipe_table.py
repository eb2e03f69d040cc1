"""Layout of Markdown tables."""

from __future__ import annotations

import pytest

from analysis.report.pipe_table import PipeColumn, escape_markdown, pipe_table


def test_pipe_table_as_tabulate_documents_it() -> None:
    # tabulate 0.9, README, tablefmt="pipe"
    columns = [
        PipeColumn(header="item", cells=("spam", "eggs", "bacon")),
        PipeColumn(header="qty", cells=("42", "451", "0"), numeric=True),
    ]
    assert pipe_table(columns) == (
        "| item   |   qty |\n"
        "|:-------|------:|\n"
        "| spam   |    42 |\n"
        "| eggs   |   451 |\n"
        "| bacon  |     0 |"
    )  # fmt: skip


def test_numbers_stand_with_their_points_under_each_other() -> None:
    # tabulate 0.9, README, "Column alignment": numbers by decimal point
    cells = ("1.2345", "123.45", "12.345", "12345", "1234.5")
    lines = pipe_table([PipeColumn(header="", cells=cells, numeric=True)]).splitlines()[2:]
    assert lines == ["|     1.2345 |", "|   123.45   |", "|    12.345  |", "| 12345      |", "|  1234.5    |"]


def test_pipe_table_refuses_ragged_columns() -> None:
    with pytest.raises(ValueError, match=r"columns have \[1, 2\] cells, expected one length"):
        pipe_table([PipeColumn(header="a", cells=("1",)), PipeColumn(header="b", cells=("1", "2"))])


def test_names_of_the_hub_stay_and_others_become_entities() -> None:
    assert escape_markdown("Some-org_1/model.v2-x_y") == "Some-org_1/model.v2-x_y"
    assert escape_markdown("<script>a|b</script>") == "&#60;script&#62;a&#124;b&#60;/script&#62;"
    assert escape_markdown("{{ site.x }}[x](y)\n") == "&#123;&#123; site.x &#125;&#125;&#91;x&#93;(y)&#10;"
