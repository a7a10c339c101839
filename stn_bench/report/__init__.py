"""The report: records to a summary, the summary to figures and a page, and those to a folder. Compute, draw, write."""
