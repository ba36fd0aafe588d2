"""What can be said of regions from their boxes alone."""
