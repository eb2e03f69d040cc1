"""Two-phase recall and select: clusters, coarse recall, fine-selection, and their replay on recorded curves."""
