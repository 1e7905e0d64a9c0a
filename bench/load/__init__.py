"""Load: schedules of arrivals, payloads, and the engines that send them."""
