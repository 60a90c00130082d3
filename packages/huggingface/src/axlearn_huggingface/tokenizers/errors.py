"""What can be wrong with the files of a tokenizer."""

from axlearn_core.errors import UserError


class TokenizerError(UserError):
    """Files are no tokenizer, or not one that can be used here."""
