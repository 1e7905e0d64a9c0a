"""Replicas: one server as several processes behind one port, with a supervisor that starts, joins and ends them."""
