"""The errors a user can be expected to meet; each message says what was expected, what came and what to do."""


class OvsrError(Exception):
    """Base of this package's own errors."""


class ImageError(OvsrError, ValueError):
    """An image that cannot be read or used."""


class VocabularyError(OvsrError, ValueError):
    """Class names that cannot be used."""


class DatasetError(OvsrError, ValueError):
    """A labelled dataset that is incomplete or has labels that cannot be used."""


class ModelError(OvsrError, RuntimeError):
    """Weights that cannot be found, read or fitted to the architecture."""
