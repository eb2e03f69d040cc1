"""Templates: what is filled in, what is told of what is not, and what YAML comes out."""

from __future__ import annotations

import pytest

from ray_app.cluster.template import fill_in, read_documents
from tracking.errors import ConfigError

TEXT = "# FILL_IN_COMMENT is no place\nregion: FILL_IN_REGION\nimage: FILL_IN_IMAGE\nagain: FILL_IN_IMAGE-2\n"


def test_values_replace_their_marks_and_nothing_else() -> None:
    filled = fill_in(TEXT, {"region": "us-1", "image": "me/ray:2.60"}, where="x.yaml")
    assert filled == "# FILL_IN_COMMENT is no place\nregion: us-1\nimage: me/ray:2.60\nagain: me/ray:2.60-2\n"


def test_a_mark_that_begins_like_another_is_another() -> None:
    assert fill_in("a: FILL_IN_ZONES\n", {"zones": "z"}, where="x", given={"zone": "no"}) == "a: z\n"


def test_everything_that_is_wrong_is_told_at_once_with_its_line() -> None:
    with pytest.raises(ConfigError) as caught:
        fill_in(TEXT, {"region": None, "image": "a; rm -rf /", "colour": "red"}, where="conf/launch/x.yaml")
    region, image, colour = caught.value.faults
    assert "account.region: not filled in (conf/launch/x.yaml, line 2)" in region
    assert "account.image" in image and "plain text" in image
    assert "account.colour" in colour and "it has: image, region" in colour


@pytest.mark.parametrize("value", ["a\nb: c", "$(id)", "`id`", "a'b", 'a"b', "{x: 1}", "#", "a & b", "é"])
def test_a_value_cannot_become_yaml_or_shell(value: str) -> None:
    with pytest.raises(ConfigError):
        fill_in("a: FILL_IN_A\n", {"a": value}, where="x")


@pytest.mark.parametrize("text", ["a: [", "- a\n- b\n", "", "just text"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        read_documents(text, where="x")
