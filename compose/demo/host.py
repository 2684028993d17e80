#!/usr/bin/env python3
"""A small MCP host: spawns a STDIO server and prints what its tool answers.

    host.py COMMAND [ARGUMENT...]

The command is what a host has in its configuration, for example
`postern exec tickets -- python3 backend.py`.
"""

import json
import subprocess
import sys


class Server:
    def __init__(self, command: list[str]):
        self.process = subprocess.Popen(command, text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        self.last_id = 0

    def send(self, message: dict) -> None:
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.process.stdin.flush()

    def call(self, method: str, params: dict) -> dict:
        self.last_id += 1
        self.send({"id": self.last_id, "method": method, "params": params})
        line = self.process.stdout.readline()
        if not line:
            raise EOFError
        return json.loads(line)["result"]

    def close(self) -> int:
        self.process.stdin.close()
        return self.process.wait()


def main() -> int:
    server = Server(sys.argv[1:])
    try:
        server.call("initialize", {"protocolVersion": "2025-06-18", "capabilities": {},
                                   "clientInfo": {"name": "demo-host", "version": "1"}})
        server.send({"method": "notifications/initialized"})
        for item in server.call("tools/call", {"name": "whoami", "arguments": {}})["content"]:
            print(item["text"])
    except (EOFError, BrokenPipeError):
        return server.process.wait() or 1  # it has said why on standard error
    return server.close()


if __name__ == "__main__":
    sys.exit(main())
