"""Measure a model: retrieval metrics of a split, shortlists, paired comparisons, twins."""
