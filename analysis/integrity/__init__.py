"""Integrity gate: test sizes, placement of values, verdicts, and how well they find known damage."""

from analysis.integrity.counts import TestSizes, constant_predictions, on_lattice, recover_test_sizes
from analysis.integrity.ledger import RowAudit
from analysis.integrity.verdicts import audit_rows

__all__ = ["RowAudit", "TestSizes", "audit_rows", "constant_predictions", "on_lattice", "recover_test_sizes"]
