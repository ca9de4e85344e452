"""pixie: the command line of Tuppence. It knows nothing of the server but its public API."""

__version__ = "0.1.0"
