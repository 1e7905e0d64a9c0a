"""Settings: every option once, where its value comes from, and its documentation."""
