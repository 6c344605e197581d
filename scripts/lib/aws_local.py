"""What scripts/aws-local can't say in bash: free ports, digests, and whether an emulator answers. Standard library only."""

import argparse
import base64
import hashlib
import http.client
import os
import random
import socket
import sys
import time

ANSWERS, ENDED, SILENT = 0, 3, 4


def free_port() -> int:
    """A port nobody listens on, from below the range that outgoing connections are given.

    A port from inside that range could be taken, while an emulator is down for a restart, by any client's connection: by one that
    tries to reach that very emulator, even, which would then connect to itself.
    """
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range") as limits:
            end = int(limits.read().split()[0])
    except OSError:
        end = 32768
    start = 10240 if end > 12288 else 1024
    for _ in range(200):
        port = random.randrange(start, max(end, start + 1024))
        try:
            # Every address: without a C compiler, DynamoDB Local binds to all of them.
            with socket.socket() as listener:
                listener.bind(("", port))
            return port
        except OSError:
            continue
    sys.exit("no free port found")


# As the kernel writes them: 127.0.0.1, the same on a socket of both families, and ::1.
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def listens(pid: int, port: int) -> set[str]:
    """The addresses on which this process, and not another one that was given the same port, listens on it."""
    inodes = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as rows:
                for row in list(rows)[1:]:
                    fields = row.split()
                    if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                        inodes[f"socket:[{fields[9]}]"] = fields[1].rpartition(":")[0]
        except OSError:
            continue
    try:
        return {inodes[link] for link in map(read_link, os.scandir(f"/proc/{pid}/fd")) if link in inodes}
    except OSError:
        return set()


def read_link(entry: os.DirEntry) -> str:
    try:
        return os.readlink(entry.path)
    except OSError:
        return ""


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def answers(port: int, target: str) -> bool:
    """One real request, signed with nothing that either emulator would check."""
    service = "sqs" if target.startswith("AmazonSQS") else "dynamodb"
    scope = f"catchment/20260101/us-east-1/{service}/aws4_request"
    headers = {
        "X-Amz-Target": target,
        "Content-Type": "application/x-amz-json-1.0",
        "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host;x-amz-target, Signature=0",
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", "/", "{}", headers)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait(pid: int, port: int, target: str, seconds: float) -> int:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not alive(pid):
            return ENDED
        if (addresses := listens(pid, port)) and answers(port, target):
            if not addresses <= LOOPBACK:
                print(f"aws-local: port {port} can be reached from other machines", file=sys.stderr)
            return ANSWERS
        time.sleep(0.05)
    return SILENT


def verify(path: str, integrity: str) -> None:
    """Compares a file with a digest as npm writes it: `sha512-` and base64."""
    name, _, expected = integrity.partition("-")
    digest = hashlib.new(name)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    found = base64.b64encode(digest.digest()).decode()
    if found != expected:
        sys.exit(f"{path} is not the file that was pinned: its {name} is {found}, not {expected}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("free-port")
    waiting = commands.add_parser("wait")
    waiting.add_argument("--pid", type=int, required=True)
    waiting.add_argument("--port", type=int, required=True)
    waiting.add_argument("--target", required=True)
    waiting.add_argument("--seconds", type=float, required=True)
    verifying = commands.add_parser("verify")
    verifying.add_argument("path")
    verifying.add_argument("integrity")
    options = parser.parse_args()
    if options.command == "free-port":
        print(free_port())
    elif options.command == "wait":
        return wait(options.pid, options.port, options.target, options.seconds)
    else:
        verify(options.path, options.integrity)
    return 0


if __name__ == "__main__":
    sys.exit(main())
