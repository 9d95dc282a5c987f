"""Sellers whose answers look like intent: from answers to sums, from sums to cases, from cases to a verdict."""
