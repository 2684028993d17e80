#!/usr/bin/env python3
"""The lint scripts on small samples: each rule must refuse its bad one."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import check_conformance  # noqa: E402
import check_includes  # noqa: E402  (found through the line above)
import check_sources  # noqa: E402


def include_problems(path, *headers):
    text = "#pragma once\n" + "".join(f"#include {header}\n" for header in headers)
    return check_includes.check(path, text)


class IncludeRule(unittest.TestCase):
    def test_lets_includes_point_left(self):
        self.assertEqual(include_problems("service/grants/release.cc", '"vault/envelope.h"',
                                          '"grants/subject.h"', "<string>", "<sys/stat.h>"), [])

    def test_refuses_an_include_that_points_right(self):
        for path, header in [("service/core/ids.h", '"crypto/hash.h"'),
                             ("service/vault/envelope.cc", '"policy/config.h"'),
                             ("service/storage/database.cc", '"grants/release.h"'),
                             ("service/http/server.cc", '"vault/envelope.h"'),
                             ("service/http/server.cc", '"http/handlers/api.h"'),
                             ("service/http/handlers/api.cc", '"storage/database.h"'),
                             ("sdk/cli/apply.cc", '"grants/release.h"'),
                             ("sdk/cpp/postern/client.cc", '"cli/output.h"')]:
            self.assertEqual(len(include_problems(path, header)), 1, (path, header))

    def test_refuses_a_third_party_header_outside_its_folder(self):
        for path, header in [("service/app/main.cc", "<pqxx/pqxx>"),
                             ("service/vault/keyring.cc", "<sodium.h>"),
                             ("service/vault/keyring.cc", "<openssl/evp.h>"),
                             ("service/grants/release.cc", "<curl/curl.h>"),
                             ("service/http/handlers/gate.cc", "<pistache/tcp.h>"),
                             ("service/core/ids.cc", "<spdlog/spdlog.h>"),
                             ("service/policy/config.cc", "<nlohmann/json.hpp>"),
                             ("service/core/ids.cc", "<absl/strings/str_cat.h>")]:
            self.assertEqual(len(include_problems(path, header)), 1, (path, header))

    def test_names_file_and_line(self):
        [problem] = include_problems("service/core/ids.h", "<string>", '"crypto/hash.h"')
        self.assertTrue(problem.startswith("service/core/ids.h:3: crypto/hash.h:"), problem)

    def test_wants_pragma_once(self):
        self.assertEqual(check_includes.check("service/core/ids.h", "#include <string>\n"),
                         ["service/core/ids.h:1: no #pragma once"])

    def test_wants_every_folder_in_the_table(self):
        self.assertEqual(len(include_problems("service/brand_new/x.cc", "<string>")), 1)


class SourceRules(unittest.TestCase):
    BAD = [
        ("service/storage/x.cc", 'tx.exec("SELECT a FROM t WHERE n = " + name);\n'),
        ("service/storage/x.cc", 'tx.exec_params(\n    "SELECT " + column, id);\n'),
        ("migrations/0009_x.sql", "SELECT  * FROM tenant;\n"),
        ("service/http/handlers/x.cc", "return reply(e.what());\n"),
        ("service/grants/x.cc", "log(e.what());\n"),
        ("service/crypto/x.cc", "if (memcmp(a, b, 32) == 0) {}\n"),
        ("service/grants/x.cc", 'std::cout << "here";\n'),
        ("service/core/x.cc", "// TODO: later\n"),
        ("docs/x.md", "text \n"),
        ("docs/x.md", "text\r\n"),
        ("docs/x.md", "text"),
        ("service/core/x.h", "\tint a;\n"),
    ]
    GOOD = [
        ("service/storage/x.cc", "tx.exec_params(kSelect, tenant.str(), a + b);\n"),
        ("service/storage/x.cc", 'tx.exec(kSelect); log("a" + b);\n'),
        ("service/http/x.cc", "// the type, not what()\n"),
        ("service/crypto/x.cc", "return sodium_memcmp(a, b, 32) == 0;\n"),
        ("service/core/x.cc", "// TODO(#41): later\n"),
        ("service/core/x.cc", 'auto url = "https://a//b";  // SELECT * in a comment\n'),
        ("docs/x.md", "text\n"),
    ]

    def test_refuses_each_bad_sample(self):
        for path, text in self.BAD:
            self.assertEqual(len(check_sources.check(path, text)), 1, (path, text))

    def test_accepts_each_good_sample(self):
        for path, text in self.GOOD:
            self.assertEqual(check_sources.check(path, text), [], (path, text))


class Conformance(unittest.TestCase):
    TESTS = {"A.T1_Takes", "A.T1_Refuses", "A.Plain", "Rfc6749_3_2.Takes", "Rfc6749_3_3.Refuses"}
    GOOD = "| T1 | M | it is | `A.T1_Takes` | `A.T1_Refuses`, `A.Plain` |"

    def problems(self, *rows, rule="M 6749 3.2"):
        head = "| Id | Level | Rule | Accepting | Refusing |\n| --- | --- | --- | --- | --- |\n"
        page = head + "".join(row + "\n" for row in rows)
        return check_conformance.check(page, self.TESTS, {"T1": rule})

    def test_takes_a_rule_with_both_kinds_of_tests_or_a_reason(self):
        self.assertEqual(self.problems(self.GOOD), [])
        self.assertEqual(self.problems("| T1 | M | it is | `Rfc6749_3_2.Takes` | `A.T1_Refuses` |"), [])
        self.assertEqual(self.problems("| T1 | P | it is | | `A.T1_Refuses` |", rule="P"), [])
        self.assertEqual(self.problems("| T1 | it is | nobody asked | `A.T1_Refuses` |", rule="-"), [])

    def test_refuses_a_rule_that_is_not_shown(self):
        for row in ("| T1 | M | it is | `A.T1_Takes` | |", "| T1 | M | it is | | `A.T1_Refuses` |",
                    "| T1 | M | it is | `A.T1_Takes` | `A.Plain` |",
                    "| T1 | M | it is | `A.T1_Takes` | `Rfc6749_3_3.Refuses` |",
                    "| T1 | M | it is | `A.T1_Takes`, `A.T1_Refuses` | `A.T1_Refuses` |",
                    "| T1 | M | it is | `A.T1_Takes` | `A.T1_Refuses`, `A.T1_Gone` |"):
            self.assertEqual(len(self.problems(row)), 1, row)
        for row in ("| T1 | P | it is | `A.Plain` | |", "| T1 | P | it is | | |"):
            self.assertEqual(len(self.problems(row, rule="P")), 1, row)
        for row in ("| T1 | it is | nobody asked | |", "| T1 | it is | nobody asked | `A.Plain` |",
                    "| T1 | it is | nobody asked |"):
            self.assertNotEqual(self.problems(row, rule="-"), [], row)

    def test_refuses_another_level_than_the_rules(self):
        self.assertEqual(len(self.problems(self.GOOD, rule="S 6749 3.2")), 1)
        self.assertEqual(len(self.problems(self.GOOD, rule="- 6749 3.2")), 1)
        self.assertEqual(len(self.problems("| T1 | it is | nobody asked | `A.T1_Refuses` |")), 2)

    def test_refuses_rows_that_are_missing_unknown_twice_or_unreadable(self):
        self.assertEqual(len(self.problems()), 1)
        self.assertEqual(len(self.problems(self.GOOD, self.GOOD)), 1)
        self.assertEqual(len(self.problems(self.GOOD, self.GOOD.replace("T1 | M", "T9 | P"))), 1)
        self.assertEqual(len(self.problems(self.GOOD, "| T2 | M |")), 1)

    def test_a_name_carries_the_rules_own_id(self):
        for identifier, test in (("X9", "A.X8_X9_Takes"), ("error.invalid_request", "A.ErrorInvalidRequest_Is"),
                                 ("id-jag.step-up", "IdJag.StepUp_Is"), ("id-jag.typ", "Rfc7523.IdJagTyp_Is"),
                                 ("6.3-wif", "A.Wif_Is"), ("dpop.4", "A.Dpop4_Is")):
            self.assertTrue(check_conformance.shows(identifier, "", test), (identifier, test))
        for identifier, test in (("X9", "A.X90_Takes"), ("X9", "A.X9Takes"), ("X9", "AX9.Takes"),
                                 ("id-jag.step-up", "IdJag.AsksForStepUp"), ("id-jag.typ", "IdJag.Aud_Is"),
                                 ("7591", "A.Takes"), ("9701", "Rfc7591_2.Takes")):
            self.assertFalse(check_conformance.shows(identifier, "", test), (identifier, test))

    def test_a_name_carries_a_section_that_the_rule_cites(self):
        cited = "6749 3.2, 8693 2.1, 9701, ClientIdMetadata"
        for test in ("Rfc6749_3_2.Is", "Rfc6749_3_2_1.Is", "A.Rfc8693_2_1_Is", "Rfc9701_5.Is",
                     "Rfc9701.Is", "ClientIdMetadata.Is"):
            self.assertTrue(check_conformance.shows("T3", cited, test), test)
        for test in ("Rfc6749_3.Is", "Rfc6749_3_20.Is", "Rfc6749_5_2.Is", "A.Rfc8693_2_2_Is",
                     "Rfc97011.Is", "ClientIdMetadatas.Is"):
            self.assertFalse(check_conformance.shows("T3", cited, test), test)

    def test_knows_tests_that_run(self):
        with tempfile.TemporaryDirectory() as root:
            folder = pathlib.Path(root, "tests/unit")
            folder.mkdir(parents=True)
            (folder / "a_test.cc").write_text(
                "TEST(A, One) {}\nTEST_F(B,\n       Two) {}\n// TEST(A, Three) {}\n"
                "TEST(A, DISABLED_Four) {}\nTEST(DISABLED_A, Five) {}\n", encoding="utf-8")
            self.assertEqual(check_conformance.tests_in(pathlib.Path(root)), {"A.One", "B.Two"})


class ExitStatus(unittest.TestCase):
    """What tests/run.sh sees."""

    def run_on(self, script, files):
        with tempfile.TemporaryDirectory() as root:
            for path, text in files.items():
                file = pathlib.Path(root, path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
            return subprocess.run([sys.executable, str(HERE / script), root], text=True,
                                  stdout=subprocess.PIPE, check=False)

    def test_is_one_for_a_bad_tree_and_zero_for_a_good_one(self):
        good = {"service/core/ids.h": "#pragma once\n#include <string>\n"}
        bad = {"service/core/ids.h": '#pragma once\n#include "vault/aad.h" \n'}
        for script in ("check_includes.py", "check_sources.py"):
            self.assertEqual(self.run_on(script, good).returncode, 0, script)
            run = self.run_on(script, bad)
            self.assertEqual(run.returncode, 1, script)
            self.assertIn("service/core/ids.h:2: ", run.stdout, script)

    def test_is_one_where_there_is_nothing_to_check(self):
        for script in ("check_includes.py", "check_sources.py", "check_conformance.py"):
            self.assertEqual(self.run_on(script, {}).returncode, 1, script)


if __name__ == "__main__":
    unittest.main()
