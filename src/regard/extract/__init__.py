"""Make a data folder from photographs: detectors, backbones, and the store of extracted regions and features."""
