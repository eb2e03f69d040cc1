"""Which base model is registered, and what its version says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.noise_ranking import Verdict
from analysis.report.site import ArchReport
from analysis.report.site.lineage import trace_lineage
from ray_app.commands.register import choose_base, version_tags
from tests.result_cells import PRETRAINED, result_table
from tests.site_reports import small_report, small_rows
from tracking.errors import InputError
from tracking.schema import ModelTag, Tag


@pytest.fixture(scope="module")
def small() -> ArchReport:
    return small_report()


def with_p(report: ArchReport, *values: float) -> ArchReport:
    """The ranked models with these corrected p values."""
    ranked = [replace(model, p_adjusted=p) for model, p in zip(report.ranked, values, strict=True)]
    return replace(report, models=tuple(ranked))


def test_the_highest_ranked_significant_one(small: ArchReport) -> None:
    assert choose_base(with_p(small, 0.01, 0.02, 1), force=False).name == "org/up"
    assert choose_base(with_p(small, 0.06, 0.04, 1), force=False).name == "startline/acme_arch-mnli"


def test_none_is_significant(small: ArchReport) -> None:
    assert small.verdict is Verdict.GOOD_ENOUGH
    with pytest.raises(InputError, match=r"nothing was registered\. The pretrained model is good enough.*FORCE=1"):
        choose_base(small, force=False)
    assert choose_base(small, force=True).name == "org/up"


def test_none_is_ranked(small: ArchReport) -> None:
    with pytest.raises(InputError, match="no base model is ranked"):
        choose_base(replace(small, models=small.models[3:]), force=True)


def test_tags_of_a_version(small: ArchReport) -> None:
    lineage = trace_lineage(result_table(small_rows()), pretrained=PRETRAINED)
    tags = version_tags(small, small.models[1], lineage)
    assert tags[ModelTag.BASE_MODEL] == "startline/acme_arch-mnli" and tags[ModelTag.TRAINED_ON] == "qnli"
    assert (tags[ModelTag.GAIN], tags[ModelTag.RANK], tags[ModelTag.N_RANKED]) == ("6.5", "2", "3")
    assert tags[Tag.CHECKPOINT] == "/kept/mnli" and tags[ModelTag.FORCED] == "true"
    assert float(tags[ModelTag.GAIN_LOW]) < 0 < float(tags[ModelTag.GAIN_HIGH])
