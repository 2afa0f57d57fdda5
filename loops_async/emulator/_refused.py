"""The exception of the control plane for a request that it refuses."""

VALIDATION_ERROR = "VALIDATION_ERROR"


class Refused(Exception):
    """A request that gets an error answer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(status, code, message)
        self.status = status
        self.code = code
        self.message = message


def conflict(message: str) -> Refused:
    """Build the answer to a request that the present state of its resource does not allow."""
    return Refused(409, "CONFLICT", message)


class BrokenSchema(Refused):
    """A request that breaks a rule of its schema, which some services answer with 422."""

    def __init__(self, message: str) -> None:
        super().__init__(400, VALIDATION_ERROR, message)


def invalid(message: str) -> Refused:
    """Build the answer to a request that breaks a rule of its schema."""
    return BrokenSchema(message)


def unacceptable(message: str) -> Refused:
    """Build the answer to a request that fits its schema but whose values cannot be accepted; always a 400."""
    return Refused(400, VALIDATION_ERROR, message)


def not_found(what: str, key: str) -> Refused:
    """Build the answer to a request for something that does not exist."""
    return Refused(404, "NOT_FOUND", f"{what} {key!r} does not exist.")
