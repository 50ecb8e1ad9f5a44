from .cleaning import Cleaner as Cleaner
from .cleaning import cleaner as cleaner
from .delays import delay as delay
from .epochs import EpochedRun as EpochedRun
from .epochs import Epochs as Epochs
from .hemodynamic import Hemodynamic as Hemodynamic
from .hemodynamic import HemodynamicRun as HemodynamicRun
from .resampling import resampling_matrix as resampling_matrix
