"""The coordinator of a region: numbers the epochs in which the leaders of its communities elect one of themselves."""
