from .acoustic import SOUND_ENVELOPE as SOUND_ENVELOPE
from .acoustic import sound_envelope as sound_envelope
from .language_model import LanguageModel as LanguageModel
from .lexical import BASELINES as BASELINES
from .lexical import Baseline as Baseline
from .text import running_text as running_text
from .toy_model import ToyModel as ToyModel
