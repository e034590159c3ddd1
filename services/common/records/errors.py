"""What can go wrong when a stored document is read."""


class RecordError(ValueError):
    """A document in the store cannot be read."""
