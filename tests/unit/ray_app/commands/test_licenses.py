"""The table of tasks and licences, and its place on the page."""

import pytest

from ray_app.commands.licenses import BEGIN, END, main, render_task_table, replace_table
from ray_app.hub.tasks import Metric, TaskConfig
from tracking.errors import ConfigError

PAIR = TaskConfig(
    name="pair",
    hub_id="org/pair",
    config="en",
    revision="ab" * 20,
    text_columns=["a"],
    label_names=["x", "y"],
    license="CC0",
)
SCORE = TaskConfig(
    name="score", text_columns=["a"], metric=Metric.SPEARMAN, license="not stated", notes="one | two\nthree"
)


def test_one_row_a_task():
    assert render_task_table([PAIR, SCORE]) == (
        "| task | hub id | config | metric | classes | licence | notes |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n"
        "| pair | `org/pair` @ abababab | en | accuracy | 2 | CC0 | - |\n"
        "| score | - | - | spearman | - | not stated | one \\| two three |\n"
    )


def test_the_table_is_put_between_the_marks_and_only_there():
    page = f"# Top\n\n{BEGIN}\nold\n{END}\n\nbottom\n"
    once = replace_table(page, "| new |\n")
    assert once == f"# Top\n\n{BEGIN}\n\n| new |\n\n{END}\n\nbottom\n"
    assert replace_table(once, "| new |\n") == once


@pytest.mark.parametrize("page", ["# Top\n", f"{BEGIN}\n", f"{END}\n{BEGIN}\n"])
def test_a_page_without_a_place_for_it_is_refused(page):
    with pytest.raises(ConfigError, match="no place for the task table"):
        replace_table(page, "")


def test_the_command_prints_or_writes(tmp_path, capsys):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "mine.yaml").write_text("name: mine\ntext_columns: [a]\nlabel_names: [x, y]\nlicense: CC0\n")
    assert main(["--tasks", str(tmp_path / "tasks")]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[2] == "| mine | - | - | accuracy | 2 | CC0 | - |"
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    assert main(["--tasks", str(tmp_path / "tasks"), "--page", str(page)]) == 0
    assert printed in page.read_text()


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    assert main(["--tasks", str(tmp_path)]) == 2
    assert "no task YAML found" in capsys.readouterr().err
    (tmp_path / "mine.yaml").write_text("name: mine\ntext_columns: [a]\nlabel_names: [x, y]\nlicense: CC0\n")
    assert main(["--tasks", str(tmp_path), "--page", str(tmp_path / "none.md")]) == 2
    assert "give a page that exists" in capsys.readouterr().err
