"""Pictures and pages: what people look at instead of reading."""

from subbyte.pages.charts import Chart, Line, Table, write_html, write_png

__all__ = ["Chart", "Line", "Table", "write_html", "write_png"]
