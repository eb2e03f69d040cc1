"""The page of columns is the schema's."""

from __future__ import annotations

from tracking.results_page import PAGE, with_table


def test_the_page_is_up_to_date() -> None:
    page = PAGE.read_text()
    assert with_table(page) == page, "run: python -m tracking.results_page"
