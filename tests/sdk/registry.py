"""The checks of a file, in the order in which they stand there."""


def registry():
    """A list, and two decorators that add a check to it, as (function, whether it needs a gateway)."""
    checks = []

    def check(function):
        checks.append((function, False))
        return function

    def gateway_only(function):
        checks.append((function, True))
        return function

    return checks, check, gateway_only
