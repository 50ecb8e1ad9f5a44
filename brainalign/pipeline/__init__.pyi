from .execution import Outcome as Outcome
from .execution import Status as Status
from .execution import report as report
from .execution import run as run
from .execution import status as status
from .machine import describe_machine as describe_machine
from .results import open_scores as open_scores
from .score import score_layers as score_layers
