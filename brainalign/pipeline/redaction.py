"""What may stand in files that people send each other: no secrets, no commands to a terminal."""

from __future__ import annotations

import os
import re

__all__ = ["redacted"]

# Colours and other commands to a terminal: those that end with a letter, titles and links, and the short ones.
ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-_]")
# Other signs that say something to a terminal only; tabs and ends of lines stay.
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# Variables of the environment whose values are nobody's business.
SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_KEY|PRIVATE_KEY|AUTH", re.IGNORECASE)
# Shorter ones would be found in innocent text ("1", "yes").
SHORTEST_SECRET = 6
# Name and password in an address; a password may hold colons, and signs that a name may not.
IN_ADDRESS = re.compile(r"(\w+://[^\s/:@]*):[^\s/]+@")
# What is told of an address after its question mark, where it is called a secret.
IN_QUERY = re.compile(
    r"([?&][\w.-]*(?:token|secret|passw|signature|credential|api_?key)[\w.-]*=)[^\s&#\"']+", re.IGNORECASE
)


def redacted(text: str) -> str:
    """A text without commands to a terminal and without secrets.

    Secrets are the values of variables of the environment that are called so (HF_TOKEN, AWS_SECRET_ACCESS_KEY ...) and
    passwords in addresses.

    Examples
    --------
    >>> redacted("from https://ann:hush-hush@host/a.npy?token=4711&n=3")
    'from https://ann:[password]@host/a.npy?token=[secret]&n=3'
    """
    text = CONTROLS.sub("", ESCAPES.sub("", text))
    secrets = {value: name for name, value in os.environ.items() if SECRET.search(name)}
    # The longest first: one may be a part of another.
    for value in sorted(secrets, key=len, reverse=True):
        if len(value) >= SHORTEST_SECRET:
            text = text.replace(value, f"[{secrets[value]}]")
    return IN_QUERY.sub(r"\1[secret]", IN_ADDRESS.sub(r"\1:[password]@", text))
