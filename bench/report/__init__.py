"""Report: one page for one or several runs that needs nothing but itself."""
