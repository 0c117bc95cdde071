#!/usr/bin/python3 -IS
"""Does keepalived accept this configuration file? Exit 0 or 1, with what it says. Standard library only.

keepalived 2.2.7 ends its own test by SIGTERM when the configuration has a check script, whether it is good or bad: then
what it said decides. In a session of its own, so that the signal reaches nobody else.
"""

import signal
import subprocess
import sys

done = subprocess.run(
    ["keepalived", "--config-test", "--use-file", sys.argv[1]],
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    start_new_session=True,
    timeout=60,
    check=False,
)
sys.stdout.write(done.stdout)
sys.exit(0 if done.returncode == 0 or (done.returncode == -signal.SIGTERM and not done.stdout.strip()) else 1)
