"""Errors that are known in advance: a kind for programs, a fact and a hint for people."""


class Known(Exception):
    """A failure with a name.

    `kind` is one of `unsupported_architecture`, `bad_request`, `bad_checkpoint`, `bad_adapter`, `output_exists`,
    `conversion_failed`. `message` states the fact with its values, `hint` what to do.
    """

    def __init__(self, kind: str, message: str, hint: str | None = None):
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.hint = hint
