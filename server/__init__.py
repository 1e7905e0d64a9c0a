"""Online: artifacts in; answers, metrics and stage times out."""

VERSION = "0.1.0"
