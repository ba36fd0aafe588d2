"""Search a collection of images by sentences."""
