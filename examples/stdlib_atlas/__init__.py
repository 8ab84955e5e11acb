"""An atlas of the standard library: one job for each of its source files, one more for the report."""
