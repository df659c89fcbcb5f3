"""Feeders that are shipped with the bench, as folders of CSV tables, and the scripts that made them."""
