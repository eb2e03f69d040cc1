"""The printed tables are complete and carry the marks that print gives them."""

from __future__ import annotations

import math
from collections import Counter

from analysis import published_tables as tables


def test_tables_have_their_printed_sizes_and_order() -> None:
    assert (len(tables.TABLE_4), len(tables.TABLE_5), len(tables.TABLE_3)) == (66, 25, 22)
    for table in (tables.TABLE_4, tables.TABLE_5):
        averages = [row.average_gain for row in table]
        assert averages == sorted(averages)
    assert not any(math.isnan(row.probe_gain) for row in tables.TABLE_4)
    assert all(math.isnan(row.probe_gain) for row in tables.TABLE_5)


def test_rows_printed_twice_are_known() -> None:
    twice = {name for name, count in Counter(row.name for row in tables.TABLE_4).items() if count > 1}
    assert twice == {"neoyipeng/twitter-roberta-base-sentiment-mlm-c..."}
    assert [row.set_name for row in tables.TABLE_4 if row.name in twice] == ["scratch_0", "models_5"]
    assert len({row.name for row in tables.TABLE_5}) == 22
    assert sum(row.name.endswith("...") for row in tables.TABLE_4) == 7


def test_in_house_rows_of_the_two_lost_gain_tables_agree_in_print() -> None:
    assert tables.TABLE_1[:2] == tables.TABLE_6[:2]
    assert all(row.n_over <= row.n_targets for row in (*tables.TABLE_1, *tables.TABLE_6))


def test_tasks_without_spread_in_table_3() -> None:
    assert [task for task, (_, std) in tables.TABLE_3.items() if std == 0] == ["WSC", "WNLI"]
