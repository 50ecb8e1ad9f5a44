from .archive import Archive as Archive
from .fetching import fetch_file as fetch_file
