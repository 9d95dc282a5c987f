"""Versions at work side by side: what sellers and reviewers said of each, and how sure one may be."""
