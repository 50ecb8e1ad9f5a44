from .backward import Decoded as Decoded
from .backward import Decoding as Decoding
from .backward import Latencies as Latencies
from .retrieval import Retrieval as Retrieval
from .retrieval import retrieval as retrieval
