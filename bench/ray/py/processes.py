"""What the kernel says about processes: processor time and memory."""

import json
import os
import pathlib

MARKER = "DRIFTMESH_BENCH_RUN"  # every process of a run carries it in its environment


def carriers(entry):
    """The processes with an entry in their environment."""
    out = []
    for d in pathlib.Path("/proc").iterdir():
        if d.name.isdigit():
            try:
                if entry.encode() in (d / "environ").read_bytes().split(b"\0"):
                    out.append(int(d.name))
            except OSError:
                pass  # it has ended, or is another user's
    return out


def of_this_run(*but):
    """All of Ray: daemons, actors and the driver, but not who started us."""
    return set(carriers(f"{MARKER}={os.environ[MARKER]}")) - {os.getppid(), *but}


def cpu(pids):
    """Seconds of the processor that processes have used."""
    total = 0.0
    for pid in pids:
        try:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def pss(pid):
    """MiB of proportional set size."""
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"smaps_rollup of {pid} has no Pss")


class Answer:
    """The one line of JSON on standard output, where Ray's daemons write too: from
    here on all others write to standard error."""

    def __init__(self):
        self.out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def give(self, value):
        print(json.dumps(value), file=self.out, flush=True)
