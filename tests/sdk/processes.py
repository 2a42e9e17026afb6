"""Child processes that write to a log and end with the run."""
import socket
import subprocess
import time


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A running child. Its output, both streams together, is in `log`."""

    def __init__(self, command, log, environment=None):
        self.log = log
        with open(log, "wb") as output:
            self.child = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, env=environment,
            )

    def output(self):
        return self.log.read_text(errors="replace")

    def wait_for(self, ready, what, seconds=60):
        """Calls `ready` until it answers something; fails with the log's end when the child ends before."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.child.poll() is None:
            if found := ready():
                return found
            time.sleep(0.05)
        raise SystemExit(f"waited in vain for {what}; its log ends:\n" + self.output()[-2000:])

    def stop(self):
        self.child.stdin.close()
        self.child.terminate()
        try:
            self.child.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
