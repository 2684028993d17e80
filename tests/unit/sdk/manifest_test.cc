#include "cli/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "temp_folder.h"

namespace postern::cli {
namespace {

using test::TempFolder;

Reading read(std::string_view text, Documents wanted = Documents::One) {
  return read_yaml(text, "t.yaml", wanted);
}

std::string json_of(std::string_view text) {
  const auto reading = read(text);
  if (!reading.faults.empty()) return reading.faults[0].text();
  return reading.documents[0].json().dump();
}

std::string fault_of(std::string_view text) {
  const auto reading = read(text);
  EXPECT_TRUE(reading.documents.empty()) << "a document in spite of a fault";
  return reading.faults.empty() ? "no fault" : reading.faults[0].text();
}

TEST(ReadYaml, ReadsPlainScalarsAsYaml12DoesAndNoMore) {
  const std::pair<const char*, const char*> table[] = {
      {"null", "null"},
      {"~", "null"},
      {"", "null"},
      {"true", "true"},
      {"False", "false"},
      {"yes", R"("yes")"},
      {"No", R"("No")"},
      {"on", R"("on")"},
      {"off", R"("off")"},
      {"y", R"("y")"},
      {"0", "0"},
      {"-0", "0"},
      {"42", "42"},
      {"+42", "42"},
      {"-42", "-42"},
      {"0x1F", "31"},
      {"0o17", "15"},
      {"9007199254740992", "9007199254740992"},
      {"1.5", "1.5"},
      {"1e3", "1000.0"},
      {".5", "0.5"},
      {"-1.", "-1.0"},
      {"1.2.3", R"("1.2.3")"},
      {"1_000", R"("1_000")"},
      {"12:30:45", R"("12:30:45")"},
      {"2026-11-21", R"("2026-11-21")"},
      {"0x", R"("0x")"},
      {"1e", R"("1e")"},
      {"'true'", R"("true")"},
      {"\"12\"", R"("12")"},
      {"'~'", R"("~")"},
      {"repo:read", R"("repo:read")"},
      {"https://a.example/x#y", R"("https://a.example/x#y")"},
  };
  for (const auto& [yaml, json] : table) {
    EXPECT_EQ(json_of("v: " + std::string(yaml) + "\n"), "{\"v\":" + std::string(json) + "}")
        << yaml;
  }
}

TEST(ReadYaml, ReadsBlocksFlowsAndText) {
  EXPECT_EQ(json_of("a:\n  - x\n  - {y: 1, z: [true, ~]}\nb: |\n  two\n  lines\n"),
            R"({"a":["x",{"y":1,"z":[true,null]}],"b":"two\nlines\n"})");
  EXPECT_EQ(json_of("a: 'it''s'\nb: \"x\\\"\"\nc: ''\n"), R"({"a":"it's","b":"x\"","c":""})");
  EXPECT_EQ(json_of("\xef\xbb\xbf"
                    "a: 1\r\nb: 2\r\n"),
            R"({"a":1,"b":2})");
  EXPECT_EQ(json_of(R"({"a": [1, "b", {"c": null}]})"), R"({"a":[1,"b",{"c":null}]})");
  EXPECT_EQ(json_of("a: {}\nb: []\n"), R"({"a":{},"b":[]})");
}

struct BadInput {
  const char* yaml;
  const char* fault;
};

TEST(ReadYaml, RefusesWhatSurprisesAndSaysWhere) {
  const BadInput table[] = {
      {"a: 1\nb: 2\na: 3\n", "t.yaml:3:1: a: this key is here twice"},
      {"x:\n  - {k: 1, k: 2}\n", "t.yaml:2:12: x[0].k: this key is here twice"},
      {"a: 1\n\"a\": 2\n", "t.yaml:2:1: a: this key is here twice"},
      {"a: &x 1\nb: 2\n", "t.yaml:1:4: a: anchors (&name) are not supported; write it out"},
      {"a: &x [1]\nb: *x\n", "t.yaml:1:4: a: anchors (&name) are not supported; write it out"},
      {"a: &x {b: *x}\n", "t.yaml:1:4: a: anchors (&name) are not supported; write it out"},
      {"a: !!str 1\n", "t.yaml:1:4: a: tags (!type) are not supported"},
      {"a: !secret x\n", "t.yaml:1:4: a: tags (!type) are not supported"},
      {"a: !!binary aGk=\n", "t.yaml:1:4: a: tags (!type) are not supported"},
      {"a: !x [1]\n", "t.yaml:1:4: a: tags (!type) are not supported"},
      {"a:\n  <<: {b: 1}\n", "t.yaml:2:3: a: merge keys (<<) are not supported; write it out"},
      {"1: x\n", "t.yaml:1:1: a key must be text; put it in quotes"},
      {"a:\n  true: x\n", "t.yaml:2:3: a: a key must be text; put it in quotes"},
      {"~: x\n", "t.yaml:1:1: a key must be text; put it in quotes"},
      {"? [a]\n: x\n", "t.yaml:1:3: a key must be text, not a list or map"},
      {"{a: 1}: x\n", "t.yaml:1:1: a key must be text, not a list or map"},
      {"a: 010\n",
       "t.yaml:1:4: a: a number must not begin with 0; put it in quotes if it is "
       "meant as text"},
      {"a: 9007199254740993\n",
       "t.yaml:1:4: a: this number is too large; put it in quotes if it is meant as text"},
      {"a: 99999999999999999999999\n",
       "t.yaml:1:4: a: this number is too large; put it in quotes if it is meant as text"},
      {"a: 1e999\n",
       "t.yaml:1:4: a: this number is too large; put it in quotes if it is meant as text"},
      {"a: .inf\n",
       "t.yaml:1:4: a: JSON has no infinity and no NaN; put it in quotes if it is "
       "meant as text"},
      {"a: -.Inf\n",
       "t.yaml:1:4: a: JSON has no infinity and no NaN; put it in quotes if it is "
       "meant as text"},
      {"a: 1\n---\nb: 2\n", "t.yaml:3:1: there is a second document here; only one is expected"},
      {"", "t.yaml: there is nothing in it"},
      {"# only a comment\n", "t.yaml: there is nothing in it"},
      {"---\n---\n", "t.yaml: there is nothing in it"},
  };
  for (const auto& [yaml, fault] : table) EXPECT_EQ(fault_of(yaml), fault) << yaml;
}

TEST(ReadYaml, PlacesSyntaxErrors) {
  const std::pair<const char*, const char*> table[] = {
      {"a: [1, 2\n", "t.yaml:2:1: not valid YAML"},
      {"a: 1\n b: 2\n", "t.yaml:2:3: not valid YAML"},
      {"a: 1\n\tb: 2\n", "t.yaml:2:"},
      {"a: 'x\n", "t.yaml:1:4: a: the quote that begins here is never closed"},
      {"a: \"x\\\"\nb: 1\n", "t.yaml:1:4: a: the quote that begins here is never closed"},
      {"a: 'it''s\n", "t.yaml:1:4: a: the quote that begins here is never closed"},
      {"a: 'x", "t.yaml:1:6: not valid YAML"},
      {"[1] x\n", "t.yaml:1:5: this does not belong to what stands before it"},
      {",[", "t.yaml:1:1: this does not belong to what stands before it"},
      {"---\n,\n", "t.yaml:2:1: this does not belong to what stands before it"},
      {"- a\nb: 1\n", "t.yaml:2:1: this does not belong to what stands before it"},
      {"[1,,2]\n", "t.yaml:1:4: [1]: there is nothing before this"},
      {"[,]\n", "t.yaml:1:2: [0]: there is nothing before this"},
      {"é: 1\nü: [é, *x]\n", "t.yaml:2:8: not valid YAML"},
      {"a: *nope\n", "t.yaml:1:"},
      {"a: b: c\n", "t.yaml:1:5: not valid YAML"},
      {"]\n", "t.yaml:1:1: not valid YAML"},
      {"a: 1\n]\n", "t.yaml:2:1: not valid YAML"},
  };
  for (const auto& [yaml, begin] : table) {
    EXPECT_EQ(fault_of(yaml).substr(0, std::string(begin).size()), begin) << fault_of(yaml);
  }
}

TEST(ReadYaml, RefusesBytesThatAreNoText) {
  using namespace std::string_view_literals;
  EXPECT_EQ(fault_of("a: 1\nb: \0x\n"sv), "t.yaml:2:4: there is a NUL byte here");
  EXPECT_EQ(fault_of("a: 1\0"sv), "t.yaml:1:5: there is a NUL byte here");
  EXPECT_EQ(fault_of("a: \x1b[31m\n"), "t.yaml:1:4: there is a control character here");
  EXPECT_EQ(fault_of("a: \xff\n"), "t.yaml:1:4: this is not UTF-8 text");
  EXPECT_EQ(fault_of("a: \xc0\x80\n"), "t.yaml:1:4: this is not UTF-8 text");
  EXPECT_EQ(fault_of("a: \xed\xa0\x80\n"), "t.yaml:1:4: this is not UTF-8 text");
  EXPECT_EQ(fault_of("\xff\xfe"
                     "a\0:\0"sv),
            "t.yaml:1:1: this is not UTF-8 text");
}

TEST(ReadYaml, RefusesEscapesThatMakeNoText) {
  EXPECT_EQ(json_of(R"(a: "\u00fc \x41 \t")"), "{\"a\":\"ü A \\t\"}");
  EXPECT_EQ(fault_of(R"(a: "x\0y")"), "t.yaml:1:4: a: there is a NUL character in this text");
  EXPECT_EQ(fault_of(R"("\0": 1)"), "t.yaml:1:1: there is a NUL character in this text");
  for (const char* yaml : {R"(a: "\_")", R"(a: "\N")"}) {
    EXPECT_EQ(fault_of(yaml),
              "t.yaml:1:4: a: an escape in this text does not make UTF-8; write "
              "the character itself");
  }
  EXPECT_NE(fault_of(R"(a: "\ud800")"), "no fault");
}

TEST(ReadYaml, BoundsSizeAndDepth) {
  EXPECT_EQ(fault_of(std::string(kMaxManifestBytes + 1, ' ')),
            "t.yaml: is larger than 1048576 bytes");
  const auto nested = [](std::size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_EQ(json_of(nested(kMaxManifestDepth)), nested(kMaxManifestDepth));
  EXPECT_NE(fault_of(nested(kMaxManifestDepth + 1)).find("nested deeper than 32 levels"),
            std::string::npos);
  // Nothing but openings: neither the parser nor a destructor may recurse without end.
  EXPECT_NE(fault_of(std::string(200'000, '[')), "no fault");
  std::string maps;
  for (int i = 0; i < 50'000; ++i) maps += "{a: ";
  EXPECT_THAT(fault_of(maps), testing::HasSubstr("nested too deeply"));
}

TEST(ReadYaml, BoundsKeysAndWhatIsKeptForMessages) {
  EXPECT_THAT(json_of(std::string(kMaxKeyBytes, 'k') + ": 1"), testing::HasSubstr("k\":1}"));
  EXPECT_EQ(fault_of("a:\n  " + std::string(kMaxKeyBytes + 1, 'k') + ": 1\n"),
            "t.yaml:2:3: a: a key is longer than 256 bytes");

  // Every value of a list repeats the keys above it: 20 KB that would become 75 MB.
  std::string nested;
  for (int i = 0; i < 29; ++i) nested += "{" + std::string(kMaxKeyBytes, 'k') + ": ";
  nested += "[";
  std::string document = nested;
  for (int i = 0; i < 10'000; ++i) document += "0,";
  document += "]" + std::string(29, '}') + "\n";
  EXPECT_THAT(fault_of(document), testing::HasSubstr("too many values under long, nested keys"));

  // The bound is that of the file, not of each of its documents.
  std::string half = nested;
  for (int i = 0; i < 2'500; ++i) half += "0,";
  half += "]" + std::string(29, '}') + "\n";
  EXPECT_TRUE(read(half).faults.empty());
  EXPECT_FALSE(read(half + "---\n" + half, Documents::Many).faults.empty());
}

TEST(ReadYaml, ReadsSeveralDocumentsWhenAsked) {
  const auto reading = read("a: 1\n---\n---\nb: 2\n...\n", Documents::Many);
  ASSERT_TRUE(reading.faults.empty()) << reading.faults[0].text();
  ASSERT_EQ(reading.documents.size(), 2u);
  EXPECT_EQ(reading.documents[1].json().dump(), R"({"b":2})");
  EXPECT_EQ(reading.documents[1].fault("/b", "x").text(), "t.yaml:4:1: b: x");
}

constexpr const char* kTenant = R"(tenant: acme
backends:
  - name: files
    audience: https://files.acme.example/mcp
  - name: github
    delivery:
      env: {GITHUB_TOKEN: "{token}"}
      headers:
        a/b~c: x
bindings:
  - name: devs
    role: developer
)";

TEST(Document, PlacesServerPointersInTheFile) {
  const auto reading = read(kTenant);
  ASSERT_TRUE(reading.faults.empty());
  const auto& document = reading.documents[0];
  const std::pair<const char*, const char*> table[] = {
      {"/tenant", "t.yaml:1:1: tenant: m"},
      {"/backends", "t.yaml:2:1: backends: m"},
      {"/backends/1", "t.yaml:5:5: backends[1]: m"},
      {"/backends/0/audience", "t.yaml:4:5: backends[0].audience: m"},
      {"/backends/1/delivery/env/GITHUB_TOKEN",
       "t.yaml:7:13: backends[1].delivery.env.GITHUB_TOKEN: m"},
      {"/backends/1/delivery/headers/a~1b~0c", "t.yaml:9:9: backends[1].delivery.headers.a/b~c: m"},
      // What is not there is placed at what should hold it.
      {"/backends/1/audience", "t.yaml:5:5: backends[1].audience: m"},
      {"/backends/7/name", "t.yaml:2:1: backends[7].name: m"},
      {"/issuers", "t.yaml:1:1: issuers: m"},
      // Named by the server instead of counted.
      {"/bindings/devs/role", "t.yaml:12:5: bindings[0].role: m"},
      {"/backends/github/delivery", "t.yaml:6:5: backends[1].delivery: m"},
      {"/backends/nope/name", "t.yaml:2:1: backends.nope.name: m"},
      {"", "t.yaml:1:1: m"},
      {"nonsense", "t.yaml:1:1: m"},
      {"/backends//name", "t.yaml:2:1: backends..name: m"},
      {"/backends/18446744073709551616", "t.yaml:2:1: backends[18446744073709551616]: m"},
  };
  for (const auto& [pointer, text] : table) {
    EXPECT_EQ(document.fault(pointer, "m").text(), text) << pointer;
  }
}

TEST(ReadManifests, PutsReferredFilesInPlace) {
  const TempFolder folder;
  folder.write("idp.json", R"({"keys":[{"kty":"EC"}]})");
  folder.write("gw.secret", "0123456789abcdef0123456789abcdef\n", 0600);
  folder.write("t.yaml",
               "tenant: acme\n"
               "issuers:\n"
               "  - name: corp\n"
               "    jwks_file: ./idp.json\n"
               "clients:\n"
               "  - id: gw-01\n"
               "    secret_file: gw.secret\n");

  const auto reading = read_manifests(folder.path("t.yaml"));

  ASSERT_TRUE(reading.faults.empty()) << reading.faults[0].text();
  const auto& json = reading.documents[0].json();
  EXPECT_EQ(json["issuers"][0].dump(), R"({"jwks":{"keys":[{"kty":"EC"}]},"name":"corp"})");
  EXPECT_EQ(json["clients"][0]["secret"], "0123456789abcdef0123456789abcdef");
  EXPECT_FALSE(json["clients"][0].contains("secret_file"));
  // A fault inside the file is placed at the line that names the file.
  EXPECT_EQ(reading.documents[0].fault("/issuers/0/jwks/keys/0/crv", "is required").text(),
            folder.path("t.yaml") + ":4:5: issuers[0].jwks.keys[0].crv: is required");
  EXPECT_EQ(reading.documents[0].fault("/clients/0/secret", "is too short").text(),
            folder.path("t.yaml") + ":7:5: clients[0].secret: is too short");
}

TEST(ReadManifests, ReportsEveryReferenceThatDoesNotWork) {
  const TempFolder folder;
  folder.write("dup.json", R"({"keys":[],"keys":[]})");
  folder.write("open.secret", "0123456789abcdef0123456789abcdef", 0644);
  folder.write("two.secret", "0123456789abcdef 0123456789abcdef", 0600);
  folder.write("t.yaml",
               "tenant: acme\n"
               "issuers:\n"
               "  - {name: a, jwks_file: missing.json}\n"
               "  - {name: b, jwks_file: dup.json}\n"
               "  - {name: c, jwks_file: dup.json, jwks: {keys: []}}\n"
               "  - {name: d, jwks_file: 7}\n"
               "clients:\n"
               "  - {id: a, secret_file: open.secret}\n"
               "  - {id: b, secret_file: two.secret}\n"
               "  - {id: c, secret: correct-horse-battery-staple-canary}\n");

  const auto reading = read_manifests(folder.path("t.yaml"));

  const std::string expected[] = {
      ":3:15: issuers[0].jwks_file: missing.json: cannot read this file: No such file or directory",
      ":4:15: issuers[1].jwks_file: dup.json is not acceptable JSON: it names one member twice",
      ":5:15: issuers[2].jwks_file: is given together with jwks",
      ":6:15: issuers[3].jwks_file: must be the path of a file",
      ":8:13: clients[0].secret_file: the client secret file " + folder.path("open.secret") +
          " may be read or written by others; run: chmod 600 " + folder.path("open.secret"),
      ":9:13: clients[1].secret_file: the client secret in " + folder.path("two.secret") +
          " holds white space or control characters inside; it must be one word",
      ":10:13: clients[2].secret: a secret does not belong into a manifest; put it into a file of "
      "mode 0600 and name that as secret_file"};
  ASSERT_EQ(reading.faults.size(), std::size(expected));
  for (std::size_t i = 0; i < std::size(expected); ++i) {
    EXPECT_EQ(reading.faults[i].text(), folder.path("t.yaml") + expected[i]);
    EXPECT_EQ(reading.faults[i].text().find("canary"), std::string::npos);
  }
}

TEST(ReadManifests, NeedsATenant) {
  const TempFolder folder;
  const std::pair<const char*, const char*> table[] = {
      {"display_name: x\n", ":1:1: tenant: is required: whose manifest is this?"},
      {"tenant: 7\n", ":1:1: tenant: must be text; put it in quotes"},
      {"tenant: Acme\n",
       ":1:1: tenant: a tenant id is 1 to 63 lower-case letters, digits or hyphens"},
      {"tenant: a/../b\n",
       ":1:1: tenant: a tenant id is 1 to 63 lower-case letters, digits or hyphens"},
      {"- tenant: acme\n", ":1:1: a manifest must be a map"},
      {"just text\n", ":1:1: a manifest must be a map"},
  };
  for (const auto& [yaml, fault] : table) {
    folder.write("t.yaml", yaml);
    const auto reading = read_manifests(folder.path("t.yaml"));
    ASSERT_EQ(reading.faults.size(), 1u) << yaml;
    EXPECT_EQ(reading.faults[0].text(), folder.path("t.yaml") + fault);
  }
}

TEST(ReadManifests, SaysWhichFileCannotBeRead) {
  const auto reading = read_manifests("/nonexistent/t.yaml");
  ASSERT_EQ(reading.faults.size(), 1u);
  EXPECT_EQ(reading.faults[0].text(),
            "/nonexistent/t.yaml: cannot read this file: No such file or directory");
  EXPECT_EQ(read_manifests("/").faults.size(), 1u);
}

}  // namespace
}  // namespace postern::cli
