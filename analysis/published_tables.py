"""The tables printed in "Where to start?", as data.

Source: Choshen et al., "Where to start? Analyzing the potential value of intermediate models", Tables 1 to 6 and the
numbers in sections 4 to 6 that go with them. Gains are in points. Spaces inside set names ("imdb _1") come from
typesetting and are left out; model names that end in "..." are cut in print. Rows 11 and 12 of Table 4 are printed with
the same name and the same numbers, and three models of Table 5 are printed twice under two sets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PublishedModel:
    """One row of Table 4 or 5."""

    set_name: str
    name: str
    """Hub name; cut in print when it ends in "..."."""
    average_gain: float
    """Average gain over the General targets, points."""
    probe_gain: float
    """Linear-probe gain over MNLI, points; NaN in Table 5, which has none."""


@dataclass(frozen=True, kw_only=True)
class PublishedLostGain:
    """One row of Table 1 or 6, points."""

    experiment: str
    top: int
    average: float
    maximum: float
    n_over: int
    """Targets that lose more than a point."""
    n_targets: int


@dataclass(frozen=True, kw_only=True)
class PublishedLine:
    """average gain = intercept + slope * probe gain."""

    slope: float
    intercept: float


@dataclass(frozen=True, kw_only=True)
class PublishedRegression:
    """Mean squared errors of (b_i + t_j) t'_j in one experiment, points squared."""

    experiment: str
    full: float
    shuffled_mean: float
    shuffled_sd: float


PRINTED_LINE = PublishedLine(slope=0.0822, intercept=-0.940)
"""Appendix F as printed. It is not the least-squares line of Table 4, which has slope 0.1261 and intercept -1.832: any
least-squares line passes through the means (0.792, -1.732), and the printed one is at -0.875 there. Leaving out single
rows, ends of the range, or the row printed twice does not lead to it either, nor do robust lines; so it rests on data that
the paper does not print (the in-house models, perhaps). Both are reported."""

TABLE_4_LEAST_SQUARES = PublishedLine(slope=0.1261, intercept=-1.832)
"""Ordinary least squares over the 66 printed rows."""

TABLE_4_PEARSON, TABLE_4_SPEARMAN = 0.66, 0.51
"""Section 4.2, off-the-shelf."""

TABLE_1 = (
    PublishedLostGain(experiment="in-house", top=1, average=0.37, maximum=2.11, n_over=3, n_targets=22),
    PublishedLostGain(experiment="in-house", top=3, average=0.2, maximum=1.15, n_over=1, n_targets=22),
    PublishedLostGain(experiment="off-the-shelf", top=1, average=2.33, maximum=12.0, n_over=8, n_targets=14),
    PublishedLostGain(experiment="off-the-shelf", top=3, average=0.34, maximum=1.62, n_over=2, n_targets=14),
)
"""Lost gain, base models ranked by the linear probe."""

TABLE_6 = (
    PublishedLostGain(experiment="in-house", top=1, average=0.37, maximum=2.11, n_over=3, n_targets=22),
    PublishedLostGain(experiment="in-house", top=3, average=0.2, maximum=1.15, n_over=1, n_targets=22),
    PublishedLostGain(experiment="off-the-shelf", top=1, average=1.41, maximum=12.0, n_over=3, n_targets=14),
    PublishedLostGain(experiment="off-the-shelf", top=3, average=0.29, maximum=1.44, n_over=2, n_targets=14),
)
"""Lost gain, base models ranked by average gain on General (the in-house rows are those of Table 1 in print too)."""

TABLE_2_GROUPS = ("General", "NLI", "Twitter")
TABLE_2 = ((-0.37, -2.68, -0.54), (1.26, 0.63, -0.03), (-0.4, -2.39, 0.53))
"""Average gain of a source group (rows) on a target group (columns)."""

REGRESSIONS = (
    PublishedRegression(experiment="in-house roberta-base", full=4.2, shuffled_mean=9.6, shuffled_sd=0.9),
    PublishedRegression(experiment="in-house bert", full=10.5, shuffled_mean=30.1, shuffled_sd=4.17),
    PublishedRegression(experiment="in-house t5", full=8.11, shuffled_mean=13.51, shuffled_sd=1.5),
)
"""Sections 5 and 6.3; in-house roberta-base also 10.4 source-only and 8.2 target-only, 10.8 (sd 0.4) when shuffled."""

TABLE_3: dict[str, tuple[float, float]] = {
    "MultiRC": (61.07, 2.01),
    "QQP": (90.92, 0.29),
    "WSC": (63.46, 0.00),
    "MRPC": (87.70, 0.95),
    "CoLA": (83.11, 1.34),
    "WIC": (65.55, 2.32),
    "BoolQ": (77.09, 3.19),
    "COPA": (49.00, 4.90),
    "SST2": (93.81, 0.26),
    "CB": (70.36, 3.11),
    "QNLI": (92.28, 0.48),
    "WNLI": (56.34, 0.00),
    "RTE": (72.42, 0.93),
    "ESNLI": (91.05, 0.18),
    "ANLI": (51.67, 0.36),
    "MNLI": (87.07, 0.23),
    "Twitter Hate": (52.30, 1.03),
    "Twitter Offensive": (84.67, 0.41),
    "Twitter Irony": (70.84, 2.53),
    "Twitter Sentiment": (70.59, 0.34),
    "Twitter Emoji": (46.32, 0.56),
    "Twitter Emotion": (82.08, 0.58),
}
"""Score of the finetuned pretrained model: mean and standard deviation over 5 seeds, points."""

_TABLE_4_ROWS = (
    ("imdb_1", "aychang/roberta-base-imdb", -5.91, -12.62),
    ("sentence_4", "sentence-transformers/stsb-roberta-base", -5.84, 2.59),
    ("models_1", "textattack/roberta-base-ag-news", -5.73, -17.09),
    ("twitter_10", "lucaordronneau/twitter-roberta-base-sentiment-...", -5.71, -9.76),
    ("sentence_5", "sentence-transformers/roberta-base-nli-stsb-me...", -5.58, 2.59),
    ("finance_0", "zhayunduo/roberta-base-stocktwits-finetuned", -4.49, -12.60),
    ("sentence_2", "sentence-transformers/msmarco-roberta-base-v3", -4.17, -8.82),
    ("twitter_8", "cardiffnlp/twitter-roberta-base-emotion", -4.17, 1.00),
    ("sentence_1", "sentence-transformers/roberta-base-nli-mean-to...", -4.07, 5.47),
    ("qa_3", "navteca/roberta-base-squad2", -4.04, 4.03),
    ("quora_0", "cross-encoder/quora-roberta-base", -3.61, 8.35),
    ("scratch_0", "neoyipeng/twitter-roberta-base-sentiment-mlm-c...", -3.51, -3.13),
    ("models_5", "neoyipeng/twitter-roberta-base-sentiment-mlm-c...", -3.51, -3.13),
    ("sentence_0", "sentence-transformers/nli-roberta-base", -3.50, 5.47),
    ("models_8", "cointegrated/roberta-base-formality", -3.29, -4.96),
    ("legal_1", "saibo/legal-roberta-base", -3.20, -1.76),
    ("twitter_12", "cardiffnlp/twitter-roberta-base-stance-abortion", -2.95, -8.89),
    ("sst2_0", "Bhumika/roberta-base-finetuned-sst2", -2.77, -3.00),
    ("models_14", "cestwc/roberta-base-unigram-ternary", -2.73, -8.39),
    ("models_11", "mariagrandury/roberta-base-finetuned-sms-spam-...", -2.67, -5.90),
    ("qa_1", "nlpconnect/roberta-base-squad2-nq", -2.57, 3.67),
    ("twitter_13", "bdotloh/twitter-roberta-base-finetuned-twitter...", -2.47, -3.12),
    ("models_0", "textattack/roberta-base-CoLA", -2.38, -2.47),
    ("twitter_6", "cardiffnlp/twitter-roberta-base-dec2021", -2.31, -11.45),
    ("twitter_5", "cardiffnlp/twitter-roberta-base-mar2022", -2.21, -5.38),
    ("quora_1", "navteca/quora-roberta-base", -2.13, 8.35),
    ("models_16", "hoanhkhoa/roberta-base-finetuned-ner", -2.12, -6.82),
    ("twitter_3", "cardiffnlp/twitter-roberta-base-2021-124m", -2.05, -5.30),
    ("twitter_11", "cardiffnlp/twitter-roberta-base-stance-climate", -1.98, -6.29),
    ("legal_0", "akdeniz27/roberta-base-cuad", -1.90, -8.57),
    ("models_13", "cardiffnlp/twitter-roberta-base-stance-feminist", -1.86, -4.25),
    ("imdb_2", "aypan17/roberta-base-imdb", -1.86, -3.50),
    ("models_2", "ghanashyamvtatti/roberta-fake-news", -1.81, -12.47),
    ("scratch_1", "neoyipeng/twitter-roberta-base-sentiment-mlm-skep", -1.71, -8.73),
    ("models_12", "surrey-nlp/roberta-base-finetuned-abbr", -1.65, -0.66),
    ("twitter_4", "cardiffnlp/twitter-roberta-base-emoji", -1.63, -2.76),
    ("models_4", "textattack/roberta-base-rotten-tomatoes", -1.61, 3.73),
    ("legal_2", "marshmellow77/roberta-base-cuad", -1.53, -8.57),
    ("legal_3", "Rakib/roberta-base-on-cuad", -1.33, -2.48),
    ("twitter_7", "cardiffnlp/twitter-roberta-base-sentiment", -1.24, 3.03),
    ("twitter_9", "cardiffnlp/twitter-roberta-base", -1.16, -1.49),
    ("models_15", "thatdramebaazguy/roberta-base-wikimovies", -1.11, -1.76),
    ("finance_1", "vanadhi/roberta-base-fiqa-flm-sq-flit", -1.09, -1.00),
    ("models_3", "allenai/reviews", -1.01, -1.17),
    ("models_7", "princeton-nlp/sup-simcse-roberta-base", -0.99, 4.26),
    ("mrpc_1", "ji-xin/roberta", -0.94, -1.67),
    ("twitter_1", "cardiffnlp/twitter-roberta-base-offensive", -0.91, -2.79),
    ("sst2_1", "textattack/roberta-base-SST-2", -0.84, 3.83),
    ("sentence_3", "sentence-transformers/stsb-roberta-base-v2", -0.80, 1.68),
    ("twitter_2", "cardiffnlp/twitter-roberta-base-irony", -0.69, 0.46),
    ("imdb_0", "textattack/roberta-base-imdb", -0.40, -3.64),
    ("models_6", "VictorSanh/roberta-base-finetuned-yelp-polarity", -0.25, -0.66),
    ("models_10", "gargam/roberta-base-crest", -0.12, -4.21),
    ("twitter_0", "bhadresh-savani/roberta-base-emotion", -0.05, -4.61),
    ("qa_4", "shahrukhx01/roberta-base-boolq", 0.25, 10.42),
    ("mrpc_0", "textattack/roberta-base-MRPC", 0.39, 7.27),
    ("nli_3", "textattack/roberta-base-RTE", 0.42, 14.82),
    ("nli_2", "mujeensung/roberta-base_mnli_bc", 0.48, 23.43),
    ("qa_0", "deepset/roberta-base-squad2-covid", 0.50, -1.11),
    ("qa_2", "csarron/roberta-base-squad-v1", 0.99, 3.38),
    ("stsb_0", "textattack/roberta-base-STS-B", 1.05, 14.66),
    ("models_9", "textattack/roberta-base-QNLI", 1.10, 6.49),
    ("nli_0", "textattack/roberta-base-MNLI", 2.09, 34.39),
    ("nli_1", "cross-encoder/nli-roberta-base", 2.77, 34.09),
    ("stsb_1", "cross-encoder/stsb-roberta-base", 2.82, 30.19),
    ("multitask_0", "facebook/muppet-roberta-base", 3.00, 31.58),
)

_TABLE_5_ROWS = (
    ("QA_3", "allenai/t5-small-squad2-next-word-generator-squad", -1.28),
    ("QA_5", "allenai/t5-small-squad11", -0.77),
    ("Summarization_9", "jazzisfuture/new_summary_t5_small", -0.25),
    ("Classification_2", "mrm8488/t5-small-finetuned-imdb-sentiment", -0.22),
    ("Sentiment_1", "mrm8488/t5-small-finetuned-imdb-sentiment", -0.22),
    ("Summarization_0", "furyhawk/t5-small-finetuned-bbc-headline", -0.06),
    ("Classification_0", "mrm8488/t5-small-finetuned-boolq", -0.03),
    ("Summarization_10", "aseda/t5-small-finetuned-xsum", 0.14),
    ("Summarization_3", "mengsay/t5-small-finetuned-gigaword", 0.23),
    ("Paraphrasing_1", "hetpandya/t5-small-tapaco", 0.34),
    ("Summarization_7", "bhuvaneswari/t5-small-text_summarization", 0.36),
    ("Summarization_5", "bochaowei/t5-small-finetuned-cnn-wei1", 0.40),
    ("QA_1", "allenai/unifiedqa-t5-small", 0.43),
    ("QA_2", "allenai/t5-small-squad2-question-generation", 0.62),
    ("QG_0", "allenai/t5-small-squad2-question-generation", 0.62),
    ("QA_6", "mrm8488/t5-small-finetuned-squadv2", 0.90),
    ("Summarization_6", "stevhliu/t5-small-finetuned-billsum-ca_test", 0.94),
    ("Summarization_2", "furyhawk/t5-small-finetuned-bbc", 1.17),
    ("Summarization_4", "bochaowei/t5-small-finetuned-cnn-wei0", 1.36),
    ("Summarization_1", "Frederick0291/t5-small-finetuned-billsum", 1.51),
    ("Classification_1", "mrm8488/t5-small-finetuned-emotion", 1.54),
    ("Sentiment_0", "mrm8488/t5-small-finetuned-emotion", 1.54),
    ("Summarization_8", "airKlizz/t5-small-multi-combine-wiki-news", 1.79),
    ("Paraphrasing/QA_0", "mrm8488/t5-small-finetuned-quora-for-paraphrasing", 2.03),
    ("Paraphrasing/QA_4", "hetpandya/t5-small-quora", 2.05),
)

TABLE_4 = tuple(
    PublishedModel(set_name=group, name=name, average_gain=average, probe_gain=probe)
    for group, name, average, probe in _TABLE_4_ROWS
)
"""66 roberta-base models by average gain."""

TABLE_5 = tuple(
    PublishedModel(set_name=group, name=name, average_gain=average, probe_gain=math.nan)
    for group, name, average in _TABLE_5_ROWS
)
"""25 T5-small models by average gain."""
