"""Online: artifacts in; answers, metrics and stage times out."""
