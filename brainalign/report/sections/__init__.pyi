from .asked import SECTIONS as SECTIONS
from .asked import sections_of as sections_of
