"""Plants: real servers with one real fault each, and the cause that ``bench run`` names first."""
