"""The errors of this package; each message states what was expected, what was found and what to do."""


class OvsrError(Exception):
    """Base of this package's own errors."""


class ImageError(OvsrError, ValueError):
    """An image that cannot be read or used."""


class VocabularyError(OvsrError, ValueError):
    """A vocabulary that cannot be read or is not valid."""


class DatasetError(OvsrError, ValueError):
    """A labelled dataset that is incomplete or has invalid labels."""


class ModelError(OvsrError, RuntimeError):
    """Weights that cannot be found, read or loaded into the architecture."""
