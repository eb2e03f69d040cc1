"""Pages, tables and model cards made of finished numbers."""
