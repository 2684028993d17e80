#!/usr/bin/env python3
"""A small MCP server over STDIO, as a backend of the quickstart.

It has one tool, `whoami`, which says to which account the token in its
environment belongs, and the names of all variables it can see. It stands for
any server that takes an API token from its environment.
"""

import json
import os
import sys


def whoami() -> str:
    # tkt_<account>_<random>: a real server would ask the API behind it.
    account = (os.environ.get("TICKETS_TOKEN", "").split("_") + ["", ""])[1] or "(no token)"
    return f"account:   {account}\nvariables: {' '.join(sorted(os.environ))}"


def answer(method: str, params: dict) -> dict:
    if method == "initialize":
        return {"protocolVersion": params.get("protocolVersion", "2025-06-18"),
                "capabilities": {"tools": {}}, "serverInfo": {"name": "tickets", "version": "1"}}
    if method == "tools/list":
        return {"tools": [{"name": "whoami", "description": "Whose token is this?",
                           "inputSchema": {"type": "object"}}]}
    if method == "tools/call" and params.get("name") == "whoami":
        return {"content": [{"type": "text", "text": whoami()}]}
    raise LookupError(method)


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue  # a notification
        reply = {"jsonrpc": "2.0", "id": message["id"]}
        try:
            reply["result"] = answer(message.get("method"), message.get("params") or {})
        except LookupError:
            reply["error"] = {"code": -32601, "message": "method not found"}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
