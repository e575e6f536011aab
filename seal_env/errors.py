"""The one exception that is written for a person.

Everything a user can get wrong (a file, a name, a setting) ends in a `UserError` whose
message is a single line: what was wrong, where, and what to do. The command line prints
that line and exits with status 2; library users catch it like any `ValueError`.
"""


class UserError(ValueError):
    """Something the user gave cannot be used. The message says what, where, and what to do."""
