"""LEEP: how well the classes that the model's own head sees predict the target's labels."""

from __future__ import annotations

import numpy as np

from analysis.proxies.rows import FloatArray, IntArray, LabelledRows, RefusalError


def score_leep(rows: LabelledRows) -> float:
    """Log expected empirical prediction of the labels from the source head, nats a row; at most 0, higher is better.

    Raises:
        RefusalError: regression, or a model without a trained head of its own (a random one would only measure chance).
    Source: Nguyen et al., "LEEP: A New Measure to Evaluate Transferability of Learned Representations", ICML 2020, equation 2.
    """
    rows.require_classes("LEEP")
    if rows.source is None:
        raise RefusalError(rows.no_source_head)
    return expected_log_likelihood(rows.source, rows.codes, rows.n_classes)


def expected_log_likelihood(given: FloatArray, codes: IntArray, n_classes: int) -> float:
    """Mean log-likelihood of labels under the empirical predictor of soft assignments.

    P(y, z) = (1/n) sum_{i: y_i = y} theta_i(z), P(y | z) = P(y, z) / sum_y P(y, z), result (1/n) sum_i log sum_z P(y_i | z)
    theta_i(z). It is finite: theta_i itself is part of P(y_i, z).

    Args:
        given: (n_rows, n_z) probabilities theta, rows sum to 1.
        codes: (n_rows,) classes 0 .. n_classes - 1.
        n_classes: number of classes.
    """
    joint = np.zeros((n_classes, given.shape[1]))
    np.add.at(joint, codes, given)
    mass = joint.sum(axis=0)
    conditional = np.divide(joint, mass, out=np.zeros_like(joint), where=mass > 0)
    likelihood = np.einsum("iz,iz->i", conditional[codes], given)
    return float(np.mean(np.log(np.clip(likelihood, np.finfo(np.float64).tiny, 1.0))))
