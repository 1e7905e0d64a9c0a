"""Load tests over HTTP, from outside the server: reliable latency figures, and an explanation of them."""
