"""The image, and everything that puts it somewhere."""
