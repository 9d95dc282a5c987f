"""Data in, model versions out."""
