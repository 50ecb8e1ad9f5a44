from . import ceilings as ceilings
from . import decoding as decoding
from . import forecasts as forecasts
from . import hierarchies as hierarchies
from . import inference as inference
from . import partitions as partitions
from . import similarity as similarity
