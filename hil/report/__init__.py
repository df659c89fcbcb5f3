"""The report of a run: one HTML file that needs nothing else, with plots as SVG."""

from hil.report.page import write_report

__all__ = ["write_report"]
