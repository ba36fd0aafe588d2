"""Photographs to a data folder: detectors, backbones, and the store of what they found."""
