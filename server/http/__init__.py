"""HTTP: the hot routes below ASGI, everything else through FastAPI, the same handlers under both."""
