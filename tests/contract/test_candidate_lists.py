"""Every candidate list: made of sound model references, complete against the tables it is taken from."""

import csv
import re
from pathlib import Path

import pytest
import yaml

from ray_app.hub.checkpoints import ModelRef
from ray_app.hub.mirror import check_hub_id

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "conf" / "candidates"
SHARED = ROOT.parent / "shared"
PAPER = SHARED / "seeds" / "where-to-start-paper.txt"
TWO_PHASE = SHARED / "seeds" / "two-phase-recall-and-select.md"
MATRIX = SHARED / "published" / "two-phase" / "nlp" / "matrix.txt"
SITE_TABLE = SHARED / "published" / "model-recycling" / "models_tested.csv"

SIZES = {
    "pretrained": 0,
    "roberta_paper": 63,
    "t5_small_paper": 22,
    "two_phase_paper": 40,
    "two_phase_paper_vision": 30,
}
"""Models in each list: Table 4 has 66 rows of which 3 are unreadable, Table 5 has 25 with 3 repeated, Table VIII 40 and 30."""

needs_papers = pytest.mark.skipif(not PAPER.is_file(), reason="the papers are not at ../shared/seeds")


def ids(name: str) -> list[str]:
    stated = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return [ModelRef(**model).id for model in stated["models"]]


def test_no_list_of_the_papers_is_missing():
    assert {path.stem for path in FOLDER.glob("*.yaml")} >= set(SIZES)
    assert len(SIZES) == 5


@pytest.mark.parametrize("name", SIZES)
def test_every_list_is_made_of_sound_references(name):
    path = FOLDER / f"{name}.yaml"
    stated = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(stated) == {"name", "source", "models"}
    assert stated["name"] == name and stated["source"].strip()
    assert path.read_text(encoding="utf-8").startswith("# make sweep ")
    models = [ModelRef(**model) for model in stated["models"]]
    assert len(models) == len({model.id for model in models}) == SIZES[name]
    assert [check_hub_id(model.id) for model in models] == [model.id for model in models]
    assert all(model.revision is None or re.fullmatch(r"[0-9a-f]{40}", model.revision) for model in models)


def _table(title: str, end: str, row: str) -> list[str]:
    text = PAPER.read_text(encoding="utf-8")
    return re.findall(row, text[text.index(title) : text.index(end)], re.MULTILINE)


@needs_papers
def test_roberta_paper_is_table_4():
    """A name that the table cuts off ends in '...', or at its first underscore (allenai/reviews, ji-xin/roberta)."""
    printed = _table("LP gain over MNLI", "Table 4: RoBERTa", r"^\d+ .*? (\S+/\S+) -?[\d.]+ -?[\d.]+$")
    assert len(printed) == 66
    listed = ids("roberta_paper")
    cut_off = [name for name in printed if name.endswith("...") or name in ("allenai/reviews", "ji-xin/roberta")]
    assert [name for name in printed if name not in cut_off] == [name for name in listed if name in printed]
    with SITE_TABLE.open(encoding="utf-8") as file:
        tested = {row["model_name"] for row in csv.DictReader(file)}
    candidates = {name: {full for full in tested if full.startswith(name.removesuffix("..."))} for name in cut_off}
    resolved = {next(iter(full)) for full in candidates.values() if len(full) == 1}
    assert set(listed) - set(printed) == resolved
    assert len(resolved) == 6 and sum(not full for name in cut_off for full in [candidates[name]]) == 3


@needs_papers
def test_t5_small_paper_is_table_5():
    printed = _table("gain across the General targets", "Table 5: T5", r"^\d+ \S+ (\S+/\S+) -?[\d.]+$")
    assert len(printed) == 25
    assert ids("t5_small_paper") == list(dict.fromkeys(printed))


@needs_papers
def test_two_phase_lists_are_table_viii():
    text = TWO_PHASE.read_text(encoding="utf-8")
    rows = re.findall(
        r"^(\S+)\t(\S+)$", text[text.index("NLP model name\tCV") : text.index("## D. Experiment on")], re.M
    )
    language = [nlp for nlp, _ in rows]
    vision = [cv for _, cv in rows if cv != "-"]
    corrected = {
        "CAMeL-Lab-bert-base-arabic-camelbert-mix-did-nadi": "CAMeL-Lab/bert-base-arabic-camelbert-mix-did-nadi"
    }
    assert ids("two_phase_paper") == [corrected.get(name, name) for name in language]
    assert ids("two_phase_paper_vision") == vision


@pytest.mark.skipif(not MATRIX.is_file(), reason="the published performance matrix is not at ../shared/published")
def test_every_model_of_the_published_matrix_is_listed():
    header = MATRIX.read_text(encoding="utf-8").splitlines()[0].split()
    names = {name.replace("--", "/") for name in header}
    assert len(names) == 39
    assert set(ids("two_phase_paper")) - names == {"Guscode/DKbert-hatespeech-detection"}
    assert names <= set(ids("two_phase_paper"))
