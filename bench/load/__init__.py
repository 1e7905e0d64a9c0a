"""Load: when to send, what to send, and the engines that send it."""
