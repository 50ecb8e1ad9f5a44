"""The command `brainalign`: parses, calls brainalign.pipeline, prints; no science in it."""
