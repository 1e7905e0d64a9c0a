"""What the server tells of itself: metrics, stage times, the log."""
