"""NLEEP: LEEP with the clusters of the features in place of a source head, so that any model has it."""

from __future__ import annotations

import warnings

from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from analysis.proxies.leep import expected_log_likelihood
from analysis.proxies.reduction import principal_components
from analysis.proxies.rows import LabelledRows

CLUSTERS_PER_CLASS = 5
ENERGY = 0.8
"""Share of the variance that the principal components keep."""


def score_nleep(rows: LabelledRows) -> float:
    """Mean log-likelihood of the labels under a Gaussian mixture of the features, nats a row; at most 0, higher is better.

    Principal components with 80 % of the variance, a mixture of five Gaussians a class (at most one for four rows), and LEEP with
    the mixture's posterior as theta. The mixture's start is drawn from a fixed seed over rows in their own order, so the score is a
    function of the set of rows.

    Raises:
        RefusalError: regression.
    Source: Li et al., "Ranking Neural Checkpoints", CVPR 2021, section 4. Differs: covariances are diagonal (the components are
        uncorrelated, and a full one needs more rows than a class has).
    """
    rows.require_classes("NLEEP")
    reduced = principal_components(rows.features, share=ENERGY)
    n_clusters = max(2, min(CLUSTERS_PER_CLASS * rows.n_classes, len(reduced) // 4))
    mixture = GaussianMixture(n_clusters, covariance_type="diag", random_state=0, reg_covar=1e-6, max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the posterior is as good before the last digit as after
        posterior = mixture.fit(reduced).predict_proba(reduced)
    return expected_log_likelihood(posterior, rows.codes, rows.n_classes)
