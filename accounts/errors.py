"""The base of every error that this app's verbs raise."""


class AccountsError(Exception):
    """A rule about people, organizations or keys was broken. Subclasses carry the data that a message needs."""
