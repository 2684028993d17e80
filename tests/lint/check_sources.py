#!/usr/bin/env python3
"""Fails on what the compiler accepts and this project does not.

    check_sources.py [ROOT]

Each rule below says in which files it holds and why. Comments of C++ files do
not count for the rules about code. Exits 1 if a rule is broken.
"""

import dataclasses
import pathlib
import re
import sys

CODE = re.compile(r"\.(h|cc)$")
SERVICE = re.compile(r"^service/.*\.(h|cc)$")
TEXT = re.compile(r"(\.(h|cc|in|sql|py|sh|md|yaml|yml|toml|txt|mjs|js|ts|json)"
                  r"|^\.ci/run|^compose/quickstart|CMakeLists\.txt|Containerfile|LICENSE)$")
# Read as they are: a fuzz corpus is bytes, vectors and lock files are others' text.
FOREIGN = re.compile(r"^tests/(fuzz/corpus|vectors/data)/|package-lock\.json$|^sdk/[a-z]+/(Cargo|go)\.")
SKIPPED_FOLDERS = re.compile(r"^(\.git|\.postern|build[^/]*|node_modules|__pycache__|target|dist)$")


@dataclasses.dataclass(frozen=True)
class Rule:
    pattern: re.Pattern
    files: re.Pattern
    why: str
    except_in: tuple = ()


RULES = [
    # Within one statement, lines apart or not: a literal beside a '+', or a sum as first argument.
    Rule(re.compile(r"\bexec(?:_params|_prepared)?\d?\s*\((?:"
                    r"(?:[^;\"]|\"[^\"\n]*\")*?(?:\"[^\"\n]*\"\s*\+|\+\s*\")|[^,;\"]*\+)"),
         re.compile(r"^service/storage/.*\.(h|cc)$"),
         "SQL is a constant with numbered parameters, never text put together",
         # CREATE ROLE and CREATE DATABASE take no parameters; names are constants or quoted.
         ("service/storage/migrator.cc",)),
    Rule(re.compile(r"\bSELECT\s+\*"), re.compile(r"^(service|migrations)/.*\.(h|cc|sql)$"),
         "list the columns: a new one must not change what a statement returns"),
    Rule(re.compile(r"\bwhat\(\)"), re.compile(r"^service/http/(?!reactor\.cc).*\.(h|cc)$"),
         "what() quotes requests and SQL values; log the type"),
    Rule(re.compile(r"\bwhat\(\)"), re.compile(r"^service/(storage|grants|vault|audit|policy|token)/"),
         "what() quotes requests and SQL values; log the type"),
    Rule(re.compile(r"(?<!sodium_)\bmemcmp\s*\("), SERVICE,
         "compare with crypto::equal(): constant time"),
    Rule(re.compile(r"\b(?:std::)?(?:rand|srand|strcpy|strcat|sprintf|gets|strtok|tmpnam)\s*\("), CODE,
         "unsafe or predictable; there is a better function"),
    Rule(re.compile(r"\bstd::(?:cout|cerr|clog)\b|\bprintf\s*\("),
         re.compile(r"^service/(?!app/main\.cc|app/(?:key_commands|backup_drill|tenant_archive)\.cc|core/log\.cc).*\.(h|cc)$"), "log with core/log.h"),
    Rule(re.compile(r"\bTODO\b(?!\(#\d+\))"), re.compile(r"^(service|sdk|migrations)/"),
         "write TODO(#number): a promise needs an issue"),
    Rule(re.compile(r"[ \t]+$", re.MULTILINE), TEXT, "white space at the end of a line"),
    Rule(re.compile(r"\r"), TEXT, "lines end in LF"),
    Rule(re.compile(r"\t"), re.compile(r"\.(h|cc|sql|py|yaml|yml)$"), "indent with spaces"),
    Rule(re.compile(r"[^\n]\Z"), TEXT, "no newline at the end of the file"),
]

# A comment, or a string (kept): '//' inside a string is not a comment.
COMMENT = re.compile(r'R"(\w*)\((?:.|\n)*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|'
                     r'//[^\n]*|/\*(?:.|\n)*?\*/')


def without_comments(text: str) -> str:
    """The text with comments blanked out, each line at its old number."""
    def blank(match: re.Match) -> str:
        found = match[0]
        return re.sub(r"[^\n]", "", found) if found.startswith(("//", "/*")) else found
    return COMMENT.sub(blank, text)


def check(path: str, text: str) -> list[str]:
    """The problems of one file, each as 'path:line: reason'."""
    problems = []
    code = None
    for rule in RULES:
        if not rule.files.search(path) or path in rule.except_in:
            continue
        subject = text
        if CODE.search(path) and rule.files is not TEXT and "TODO" not in rule.pattern.pattern:
            code = code if code is not None else without_comments(text)
            subject = code
        for match in rule.pattern.finditer(subject):
            line = subject.count("\n", 0, match.start()) + 1
            problems.append(f"{path}:{line}: {rule.why}")
    return problems


def sources(root: pathlib.Path):
    """Every file below root that the rules are about, without what builds leave."""
    for entry in sorted(root.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            if not SKIPPED_FOLDERS.match(entry.name):
                yield from sources(entry)
        elif entry.is_file():
            yield entry


def main() -> int:
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else
                        pathlib.Path(__file__).resolve().parents[2])
    problems, count = [], 0
    for file in sources(root):
        path = str(file.relative_to(root))
        if FOREIGN.search(path) or not (TEXT.search(path) or CODE.search(path)):
            continue
        if path.startswith("tests/lint/test_"):
            continue  # holds bad samples on purpose
        count += 1
        problems += check(path, file.read_text(encoding="utf-8"))
    print("\n".join(problems) if problems else f"{count} files follow the source rules")
    return 1 if problems or not count else 0


if __name__ == "__main__":
    sys.exit(main())
