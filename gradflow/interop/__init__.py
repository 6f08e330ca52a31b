"""Interop: models that were not built here."""
