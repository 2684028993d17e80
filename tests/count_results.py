#!/usr/bin/env python3
"""Counts what a ctest run did: count_results.py DIRECTORY

DIRECTORY holds ctest-junit (ctest --output-junit) and NAME.xml of each
GoogleTest program (GTEST_OUTPUT=xml:DIRECTORY/). A GoogleTest program counts
its cases; any other test, and one that died before it could report, counts as
one. Prints `N passed, N failed` and how many were skipped.
"""

import pathlib
import sys
import xml.etree.ElementTree as ElementTree


def gtest_counts(report: pathlib.Path) -> tuple[int, int, int]:
    """(passed, failed, skipped) of one GoogleTest program."""
    passed = failed = skipped = 0
    for case in ElementTree.parse(report).iter("testcase"):
        if case.find("failure") is not None:
            failed += 1
        elif case.get("result") == "skipped" or case.get("status") == "notrun":
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def main() -> int:
    folder = pathlib.Path(sys.argv[1])
    totals = [0, 0, 0]
    tests = list(ElementTree.parse(folder / "ctest-junit").iter("testcase"))
    for test in tests:
        bad = test.get("status") != "run" or test.find("failure") is not None
        report = folder / f"{test.get('name')}.xml"
        counts = (0, 1, 0) if bad else (1, 0, 0)
        if report.exists():
            try:
                passed, failed, skipped = gtest_counts(report)
                # A leak or a race found at the end fails the program, not a case.
                counts = (passed, max(failed, 1) if bad else failed, skipped)
            except ElementTree.ParseError:
                pass
        totals = [total + count for total, count in zip(totals, counts)]
    print(f"{totals[0]} passed, {totals[1]} failed"
          + (f" ({totals[2]} skipped)" if totals[2] else "") + f" in {len(tests)} programs")
    return 0 if tests else 1


if __name__ == "__main__":
    sys.exit(main())
