from .signals import Signals as Signals
from .volumes import Volumes as Volumes
from .words import read_words as read_words
