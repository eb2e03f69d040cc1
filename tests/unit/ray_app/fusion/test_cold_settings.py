"""Settings of `make cold-fusion`: what is refused, and what makes two loops different ones."""

from __future__ import annotations

import pytest

from ray_app.fusion.cold_settings import ColdFusionConfig, Mode, Rollback, VariantConfig, Weighting
from ray_app.fusion.settings import FusionConfig, Rule


def test_the_default_is_the_published_loop() -> None:
    config = ColdFusionConfig()
    assert config.faults() == []
    assert (config.contributors, config.iterations) == (8, 30)
    plain = config.ways["plain"]
    assert (plain.mode, plain.weighting, plain.rollback) == (Mode.SYNCHRONOUS, Weighting.EQUAL, Rollback.NEVER)
    assert plain.fusion.rule is Rule.MEAN


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"contributors": 1}, "one contributor is not fused"),
        ({"iterations": 0}, "iterations: 0"),
        ({"quorum": 0.0}, "quorum"),
        ({"quorum": 1.5}, "quorum"),
        ({"time_limit_s": float("nan")}, "time_limit_s"),
        ({"temperature": 0.0}, "temperature"),
        ({"only": ["a"], "variants": {"b": VariantConfig()}}, "no variant 'a'"),
        ({"only": []}, "only: empty"),
        ({"variants": {"a-b": VariantConfig()}}, "not a plain name"),
        ({"variants": {"multitask": VariantConfig()}}, "name of a baseline"),
        ({"variants": {"w": VariantConfig(weighting=Weighting.PROBE)}}, "decides by probes"),
        ({"variants": {"w": VariantConfig(contributors=1)}}, "variants.w.contributors"),
        ({"variants": {"w": VariantConfig(parts=4)}}, "without single_task"),
        ({"variants": {"w": VariantConfig(single_task="mnli", parts=4)}}, "for 8 contributors"),
        ({"variants": {"w": VariantConfig(mode=Mode.ASYNCHRONOUS, arrivals=9)}}, "cannot arrive"),
        ({"variants": {"w": VariantConfig(fusion=FusionConfig(rule=Rule.GREEDY_SOUP))}}, "fusion.rule"),
        ({"variants": {"w": VariantConfig(fusion=FusionConfig(density=2.0))}}, "variants.w.fusion.density"),
        ({"tasks": ["cola", "cola"]}, "named twice"),
    ],
)
def test_faults_are_named(changes: dict[str, object], said: str) -> None:
    assert any(said in fault for fault in ColdFusionConfig(**changes).faults())  # type: ignore[arg-type]


def test_probes_and_waiting_for_nobody_do_not_go_together() -> None:
    variant = VariantConfig(mode=Mode.ASYNCHRONOUS, rollback=Rollback.REFUSE)
    assert any("asynchronous" in fault for fault in variant.faults())


def test_the_quorum_is_a_share_rounded_up() -> None:
    config = ColdFusionConfig(quorum=0.75)
    assert config.least(VariantConfig()) == 6
    assert config.least(VariantConfig(contributors=2)) == 2
    assert ColdFusionConfig(quorum=0.01).least(VariantConfig(contributors=2)) == 1


def test_going_on_longer_is_the_same_loop_and_deciding_otherwise_is_another() -> None:
    plain = VariantConfig()
    short, long = ColdFusionConfig(iterations=2), ColdFusionConfig(iterations=30)
    assert short.identity(plain) == long.identity(plain)
    weighted = VariantConfig(weighting=Weighting.PROBE)
    assert short.identity(weighted) != short.identity(plain)
    assert ColdFusionConfig(temperature=0.1).identity(plain) == short.identity(plain)
    assert ColdFusionConfig(temperature=0.1).identity(weighted) != short.identity(weighted)
    threads = VariantConfig(fusion=FusionConfig(threads=7))
    assert short.identity(threads) == short.identity(plain)


def test_variants_can_be_chosen_from() -> None:
    both = {"a": VariantConfig(), "b": VariantConfig()}
    assert list(ColdFusionConfig(variants=both).ways) == ["a", "b"]
    assert list(ColdFusionConfig(variants=both, only=["b"]).ways) == ["b"]
    assert list(ColdFusionConfig().ways) == ["plain"]
