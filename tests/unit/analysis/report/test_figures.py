"""Figures: drawn where there are cells for them, named with a reason where not; equal numbers give equal files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis.analyses import Analyses, Extras, analyse
from analysis.report.figure_style import label_points, one_panel, shortened, styled
from analysis.report.figures import FACTOR_FIGURES, GAIN_FIGURES, draw_figures
from analysis.report.gain_figures import MOST_ROWS, draw_gain_matrix, draw_probe, draw_std_matrix
from analysis.study import GainStudy
from tests.study_factory import made_of, make_study

PNG, SVG = b"\x89PNG\r\n\x1a\n", b"<?xml"


def analysed(study: GainStudy, extras: Extras | None = None) -> Analyses:
    return analyse(study, rng=np.random.default_rng(0), extras=extras, n_shuffles=2, n_draws=20)


def everything() -> tuple[Analyses, Extras]:
    """A study that has the cells for every figure."""
    rng = np.random.default_rng(1)
    origins = [made_of("mnli", size=size, label=f"n{size}") for size in (50, 100, 200)]
    origins += [made_of("qqp", size=900, seed=seed, score=0.8 + 0.01 * seed) for seed in range(3)]
    gain = rng.normal(size=(6, 4))
    study = make_study(
        gain, origins=origins, probe=rng.normal(size=6), target_groups=["nli", "general", "other", "twitter"]
    )
    extras = Extras(by_target_size={size: make_study(rng.normal(size=(4, 2))) for size in (50, 100, 200)})
    return analysed(study, extras), extras


def test_every_figure_is_drawn_where_its_cells_are(tmp_path: Path) -> None:
    analyses, extras = everything()
    drawn = draw_figures(analyses, extras, tmp_path, stem="tiny")
    assert [each.name for each in drawn] == [*GAIN_FIGURES, *FACTOR_FIGURES] and len(drawn) == 8
    for each in drawn:
        assert each.reason == "" and [path.name for path in each.files] == [
            f"tiny-{each.name}.png",
            f"tiny-{each.name}.svg",
        ]
        assert each.files[0].read_bytes().startswith(PNG) and each.files[1].read_bytes().startswith(SVG)


def test_what_cannot_be_drawn_is_named_and_leaves_no_old_file(tmp_path: Path) -> None:
    (tmp_path / "tiny-source_size.png").write_bytes(PNG)
    drawn = draw_figures(analysed(make_study([[1.0, 2.0]], seeds=1)), Extras(), tmp_path, stem="tiny")
    absent = {each.name: each.reason for each in drawn if not each.files}
    assert set(absent) == {"std_matrix", "probe", "sensitivity", *FACTOR_FIGURES} and all(absent.values())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny-gain_matrix.png", "tiny-gain_matrix.svg"]


def test_equal_numbers_give_equal_files(tmp_path: Path) -> None:
    analyses, extras = everything()
    for place in ("a", "b"):
        draw_figures(analyses, extras, tmp_path / place, stem="x")
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def texts(figure: Figure | str) -> list[str]:
    assert isinstance(figure, Figure)
    return [text.get_text() for text in figure.axes[0].texts]


def test_the_matrix_shows_gains_in_the_order_of_figure_1() -> None:
    gain = [[1.0, -2.0], [5.0, 4.0], [3.0, 0.6]]
    study = make_study(
        gain, bases=["low", "high", "middle"], tasks=["weak", "strong"], target_groups=["nli", "general"]
    )
    with styled():
        figure = draw_gain_matrix(analysed(study))
        shown = texts(figure)
    assert isinstance(figure, Figure)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["high", "middle", "low"]
    # General before NLI, the average last
    assert [label.get_text() for label in axes.get_xticklabels()] == ["strong", "weak", "average"]
    assert shown == ["4.0", "5.0", "4.5", "0.6", "3.0", "1.8", "-2.0", "1.0", "-0.5"]


def test_significant_cells_are_italic() -> None:
    # seeds half a point apart: error sqrt(1/8 (1/2 + 1/2)) = 0.35, so 1 is beyond two errors and 0.5 is not
    with styled():
        figure = draw_gain_matrix(analysed(make_study([[1.0, 0.5]])))
    assert isinstance(figure, Figure)
    styles = {text.get_text(): text.get_style() for text in figure.axes[0].texts[:2]}
    assert styles == {"1.0": "italic", "0.5": "normal"}


def test_of_many_models_the_best_the_worst_and_some_between_are_shown() -> None:
    gain = np.linspace(5, -5, 200)[:, None] + np.zeros((1, 2))
    study = make_study(gain, bases=[f"m{place}" for place in range(200)])
    with styled():
        figure = draw_gain_matrix(analysed(study))
    assert isinstance(figure, Figure)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(names) == len(set(names)) == MOST_ROWS
    assert names[:20] == [f"m{place}" for place in range(20)] and names[-20:] == [
        f"m{place}" for place in range(180, 200)
    ]
    assert [int(name[1:]) for name in names] == sorted(int(name[1:]) for name in names)


def test_missing_cells_are_empty() -> None:
    with styled():
        assert "nan" not in " ".join(texts(draw_gain_matrix(analysed(make_study([[1.0, np.nan], [2.0, 3.0]])))))
        assert isinstance(draw_std_matrix(analysed(make_study([[1.0, np.nan], [2.0, 3.0]]))), Figure)


def test_names_with_formula_marks_are_plain_text(tmp_path: Path) -> None:
    study = make_study(
        [[1.0, 2.0, 0.0], [0.0, 1.0, 5.0], [3.0, 1.0, 1.0]], bases=["$x^2", "a_b$", r"\frac"], probe=[1.0, 2.0, 3.0]
    )
    drawn = draw_figures(analysed(study), Extras(), tmp_path, stem="odd")
    assert all(each.files for each in drawn if each.name in ("gain_matrix", "probe", "sensitivity"))
    assert "$x^2" in (tmp_path / "odd-gain_matrix.svg").read_text()


def test_names_cover_neither_each_other_nor_points() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 300))
    with styled():
        _, axes = one_panel()
        axes.scatter(x, y)
        label_points(axes, x, y, [f"model number {place}" for place in range(300)], most=12)
    boxes = [text.get_window_extent() for text in axes.texts]
    marks = axes.transData.transform(np.column_stack([x, y]))
    assert 3 <= len(boxes) <= 12
    for place, box in enumerate(boxes):
        assert not box.count_contains(marks) and not box.count_overlaps(boxes[:place])


@pytest.mark.parametrize(("name", "short"), [("org/short", "org/short"), ("a" * 60, "a" * 22 + "…" + "a" * 23)])
def test_long_names_are_cut_in_their_middle(name: str, short: str) -> None:
    assert shortened(name) == short and len(shortened(name)) <= 46


def test_a_probe_that_most_lack_is_drawn_from_the_others() -> None:
    study = make_study(np.arange(10.0).reshape(5, 2), probe=[1, 2, np.nan, 4, np.nan])
    with styled():
        assert isinstance(draw_probe(analysed(study)), Figure)
