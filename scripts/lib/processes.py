"""Processes by an identity that is never given out again: the process id, and the moment the process started."""


def identity(pid: int) -> str | None:
    """`PID START`, or None once it has ended."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else f"{pid} {fields[19]}"
