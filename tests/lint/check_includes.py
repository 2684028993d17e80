#!/usr/bin/env python3
"""Holds the folder rule of docs/architecture.md: who may include whom.

    check_includes.py [ROOT]

Prints file:line and the reason for each include that breaks the rule, and
exits 1 if there was one. The rule is the data below; the code only applies it.
"""

import pathlib
import re
import sys

# Folder -> folders it may include besides itself. The longest matching prefix
# of a file's path decides, so service/http/handlers has a line of its own.
MAY_INCLUDE = {
    "service/core": [],
    "service/crypto": ["core"],
    "service/outbound": ["core"],
    "service/token": ["core", "crypto"],
    "service/audit": ["core", "crypto"],
    "service/vault": ["core", "crypto", "audit"],
    "service/policy": ["core", "crypto", "token", "audit", "vault"],
    "service/grants": ["core", "crypto", "outbound", "token", "audit", "vault", "policy"],
    "service/storage": ["core", "crypto", "outbound", "token", "audit", "vault", "policy"],
    "service/http": ["core", "crypto"],
    "service/http/handlers": ["core", "crypto", "outbound", "token", "audit", "vault", "policy",
                              "grants", "http"],
    "service/app": ["core", "crypto", "outbound", "token", "audit", "vault", "policy", "grants",
                    "storage", "http", "http/handlers"],
    # The SDK knows the service by its REST API; core is the vocabulary they share.
    "sdk/cpp/postern": ["core"],
    "sdk/cli": ["core", "postern"],
}

# The name under which a folder is included: "vault/envelope.h", "postern/client.h".
INCLUDED_AS = {"sdk/cpp/postern": "postern", "sdk/cli": "cli"}

# Third-party header -> files or folders that may include it. A third-party
# header in a second folder is a design question, not a line to add here.
THIRD_PARTY = {
    r"sodium\.h": ["service/core/secret.cc", "service/crypto/", "service/storage/scram_verifier.cc"],
    r"openssl/.*": ["service/crypto/", "service/http/"],
    r"pqxx/.*": ["service/storage/"],
    r"curl/.*": ["service/outbound/", "sdk/cpp/"],
    r"pistache/.*": ["service/http/"],
    r"boost/.*": ["service/http/"],
    r"spdlog/.*": ["service/core/log.cc"],
    r"nlohmann/.*": ["service/token/", "service/http/", "sdk/cpp/"],
    r"toml\+\+/.*": ["service/app/"],
    r"CLI/.*": ["service/app/", "sdk/cli/"],
    r"prometheus/.*": ["service/app/metrics.cc"],
    r"yaml-cpp/.*": ["sdk/cli/"],
    r"p11-kit/.*": ["service/crypto/pkcs11.cc"],
}

# Headers of the C++ library and of the system: not third party.
SYSTEM = re.compile(r"[a-z_0-9]+|(sys|netinet|arpa|linux)/[a-z_0-9]+\.h|"
                    r"(dlfcn|fcntl|grp|malloc|netdb|poll|pthread|pwd|sched|signal|spawn|termios|time|unistd)\.h")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def folder_of(path: str) -> str:
    """The line of MAY_INCLUDE a file falls under, or '' for none."""
    matches = [folder for folder in MAY_INCLUDE if path.startswith(folder + "/")]
    return max(matches, key=len, default="")


def name_of(folder: str) -> str:
    return INCLUDED_AS.get(folder, folder.removeprefix("service/"))


NAMES = sorted((name_of(folder) for folder in MAY_INCLUDE), key=len, reverse=True)


def target_of(header: str) -> str:
    """The folder a project header lies in: 'http/handlers/api.h' -> 'http/handlers'."""
    return next((name for name in NAMES if header.startswith(name + "/")), "")


def problem_with(path: str, header: str) -> str:
    """Why the file at `path` may not include `header`, or ''."""
    folder = folder_of(path)
    if not folder:
        return "this folder is not in the table of tests/lint/check_includes.py"
    target = target_of(header)
    if target:
        if target == name_of(folder) or target in MAY_INCLUDE[folder]:
            return ""
        return f"{name_of(folder)} may not include {target}"
    for pattern, places in THIRD_PARTY.items():
        if re.fullmatch(pattern, header):
            if folder == "service/http/handlers" and header.startswith("pistache/"):
                return "handlers know nothing of Pistache"
            if any(path == place or (place.endswith("/") and path.startswith(place))
                   for place in places):
                return ""
            return f"<{header}> belongs to {', '.join(places)}"
    if SYSTEM.fullmatch(header):
        return ""
    return "this third-party header is not in the table of tests/lint/check_includes.py"


def check(path: str, text: str) -> list[str]:
    """The problems of one file, each as 'path:line: reason'."""
    problems = []
    if path.endswith(".h") and not re.search(r"^#pragma once$", text, re.MULTILINE):
        problems.append(f"{path}:1: no #pragma once")
    for number, line in enumerate(text.splitlines(), 1):
        include = INCLUDE.match(line)
        if include:
            reason = problem_with(path, include[2])
            if reason:
                problems.append(f"{path}:{number}: {include[2]}: {reason}")
    return problems


def main() -> int:
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else
                        pathlib.Path(__file__).resolve().parents[2])
    files = sorted(file for top in ("service", "sdk") for pattern in ("*.h", "*.cc")
                   for file in (root / top).rglob(pattern)
                   if not {"node_modules", "target"} & set(file.relative_to(root).parts))
    if not files:
        print(f"no sources under {root}")
        return 1
    problems = [problem for file in files
                for problem in check(str(file.relative_to(root)), file.read_text(encoding="utf-8"))]
    print("\n".join(problems) if problems else f"{len(files)} files follow the include rule")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
