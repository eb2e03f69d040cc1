"""GBC: how much the classes overlap when each is taken for a Gaussian."""

from __future__ import annotations

import numpy as np

from analysis.proxies.reduction import principal_components
from analysis.proxies.rows import LabelledRows, RefusalError

COMPONENTS = 64
_FLOOR = 1e-8
"""Least variance of a class, as a share of the total variance of the features."""


def score_gbc(rows: LabelledRows) -> float:
    """Minus the summed Bhattacharyya coefficients of all ordered pairs of classes; at most 0, higher is better.

    On at most 64 principal components, each class a spherical Gaussian with mean m_c and variance v_c:
    BC = exp(-D), D = |m_1 - m_2|^2 / (8 v) + (d / 2) log(v / sqrt(v_1 v_2)), v = (v_1 + v_2) / 2.
    Classes with one row have no variance and are left out.

    Raises:
        RefusalError: regression, or fewer than two classes with two rows.
    Source: Pándy et al., "Transferability Estimation using Bhattacharyya Class Separability", CVPR 2022, equations 2 and 5 (spherical
        covariances, as for the paper's source selection).
    """
    rows.require_classes("GBC")
    counts = np.bincount(rows.codes)
    known = np.flatnonzero(counts >= 2)
    if len(known) < 2:
        raise RefusalError("fewer than two classes have two rows or more, so their overlap is unknown")
    reduced = principal_components(rows.features, most=COMPONENTS)
    n_components = reduced.shape[1]
    members = [reduced[rows.codes == code] for code in known]
    means = np.array([part.mean(axis=0) for part in members])
    variances = np.maximum([part.var(axis=0).mean() for part in members], _FLOOR / n_components)
    first, second = np.triu_indices(len(known), k=1)
    between = ((means[first] - means[second]) ** 2).sum(axis=1)
    middle = (variances[first] + variances[second]) / 2
    shape = np.log(middle) - (np.log(variances[first]) + np.log(variances[second])) / 2
    return float(-2 * np.exp(-between / (8 * middle) - n_components / 2 * shape).sum())
