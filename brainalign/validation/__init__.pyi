from .checks import Check as Check
