"""Makes chosen units slow, large or wrong in processes that a test has started elsewhere, such as jobs of a cluster.

Python imports this file where its folder is in PYTHONPATH. FAULTS_IN_JOBS is a list of mappings in JSON: `about`
chooses the units whose description holds it; each has `seconds`, `gigabytes` or `error`.
"""

import json
import os
import time

if os.environ.get("FAULTS_IN_JOBS"):
    from brainalign.errors import DataError
    from brainalign.pipeline.work import Worker

    make = Worker._make

    def make_after_faults(self, unit, progress):
        ballast = []
        for fault in json.loads(os.environ["FAULTS_IN_JOBS"]):
            if fault["about"] in unit.about:
                ballast.append(b"x" * int(1e9 * fault.get("gigabytes", 0)))
                # In short steps, as linear algebra would let a signal in.
                until = time.monotonic() + fault.get("seconds", 0)
                while time.monotonic() < until:
                    time.sleep(0.05)
                if "error" in fault:
                    raise DataError(fault["error"])
        make(self, unit, progress)

    Worker._make = make_after_faults
