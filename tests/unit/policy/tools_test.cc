#include "policy/tools.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>

#include "policy/config.h"
#include "support/code_of.h"

namespace postern::policy {
namespace {

using test::code_of;
using token::Json;

ToolDetail detail(std::string identifier, std::vector<std::string> actions = {"call"}) {
  return {{}, std::move(actions), std::move(identifier), {}};
}

TEST(ToolPermission, HasThreeParts) {
  const auto read = ToolPermission::parse("files:read_*:call");
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read.value().backend, "files");
  EXPECT_EQ(read.value().tool, "read_*");
  EXPECT_EQ(read.value().action, "call");
  EXPECT_EQ(read.value().str(), "files:read_*:call");
  EXPECT_TRUE(ToolPermission::parse("*:*:*").ok());
  for (const char* bad : {"", "files", "files:read", "files::call", ":read:call",
                          "files:read:", "Files:read:call", "files:re ad:call", "files:read:CALL",
                          "files:a:b:call", "files:read\n:call", "fi*les:read:call"}) {
    EXPECT_EQ(code_of(ToolPermission::parse(bad)), ErrorCode::MalformedRequest) << bad;
  }
}

TEST(ToolPermission, HasASecondSpellingThatIsReadAndNeverWritten) {
  for (const auto& [spelled, meant] : std::map<std::string, std::string>{
           {"mcp:files:read_*:call", "files:read_*:call"},
           {"mcp:*:*:*", "*:*:*"},
           {"mcp:files:*:call", "files:*:call"},
           {"mcp:files:docs/get.v1:tools/call", "files:docs/get.v1:tools/call"},
           {"mcp:mcp:read:call", "mcp:read:call"},
           // A backend may have that name; three parts are never four.
           {"mcp:read:call", "mcp:read:call"},
           {"mcp:*:*", "mcp:*:*"}}) {
    const auto read = ToolPermission::parse(spelled);
    ASSERT_TRUE(read.ok()) << spelled;
    EXPECT_EQ(read.value().str(), meant);
    EXPECT_EQ(read.value(), ToolPermission::parse(meant).value());
  }
  for (const char* bad : {"mcp:",
                          "mcp",
                          "mcp::",
                          "mcp:files",
                          "mcp:files:read",
                          "mcp:::",
                          "mcp::read:call",
                          "mcp:files::call",
                          "mcp:files:read:",
                          "mcp:files:read:call:",
                          "mcp:files:read:call:more",
                          "mcp:mcp:files:read:call",
                          "MCP:files:read:call",
                          "Mcp:files:read:call",
                          " mcp:files:read:call",
                          "mcp :files:read:call",
                          "mcps:files:read:call",
                          "mc*:files:read:call",
                          "*:files:read:call",
                          "mcp:fi*:read:call",
                          "mcp:Files:read:call",
                          "mcp:files:re ad:call",
                          "mcp:files:read:CALL",
                          "mcp:files:read:ca*"}) {
    const bool three = std::string(bad) == "mcp:files:read";
    EXPECT_EQ(ToolPermission::parse(bad).ok(), three) << bad;
  }
}

TEST(ToolPermission, InARoleIsStoredOnceAndInOneForm) {
  const auto role = read_role(
      {{"name", "reader"},
       {"tools",
        {"mcp:files:read_*:call", "files:read_*:call", "mcp:*:list:*", "mcp:files:read_*:call"}}},
      "");
  ASSERT_TRUE(role.ok());
  EXPECT_EQ(write(role.value()).at("tools"), Json({"files:read_*:call", "*:list:*"}));
  const auto bad = read_role(
      {{"name", "reader"}, {"tools", {"mcp:files:a:call", "mcp:files:a:call:b"}}}, "/roles/0");
  ASSERT_EQ(code_of(bad), ErrorCode::MalformedRequest);
  EXPECT_EQ(bad.error().pointer, "/roles/0/tools/1");
}

TEST(Rfc9396_2, ADetailIsReadAndWrittenBack) {
  const std::string text =
      R"([{"actions":["call","list"],"constraints":{"path":["/a","/b"]},"identifier":"read_*",)"
      R"("locations":["https://files.example.com/mcp"],"type":"mcp_tool"}])";
  const auto details = parse_tool_details(text);
  ASSERT_TRUE(details.ok()) << details.error().detail;
  EXPECT_EQ(token::dump_json(write(details.value())), text);
}

TEST(Rfc9396_5, WhatIsNotUnderstoodIsRefused) {
  const auto code = [](const std::string& text) { return code_of(parse_tool_details(text)); };
  for (const char* bad :
       {"",
        "null",
        "{}",
        "[]",
        "[1]",
        "[{}]",
        "\"mcp_tool\"",
        R"([{"type":"mcp_tool"}])",
        R"([{"type":"mcp_tool","identifier":"x"}])",
        R"([{"type":"mcp_tool","actions":["call"]}])",
        R"([{"identifier":"x","actions":["call"]}])",
        R"([{"type":"payment","identifier":"x","actions":["call"]}])",
        R"([{"type":"MCP_TOOL","identifier":"x","actions":["call"]}])",
        R"([{"type":["mcp_tool"],"identifier":"x","actions":["call"]}])",
        R"([{"type":"mcp_tool","identifier":"x","actions":["call"],"privileges":["a"]}])",
        R"([{"type":"mcp_tool","identifier":"x","actions":["call"],"identifier":"*"}])",
        R"([{"type":"mcp_tool","identifier":"x","actions":["call"],"\u0061ctions":["*"]}])",
        R"([{"type":"mcp_tool","identifier":"","actions":["call"]}])",
        R"([{"type":"mcp_tool","identifier":"a b","actions":["call"]}])",
        R"([{"type":"mcp_tool","identifier":1,"actions":["call"]}])",
        R"([{"type":"mcp_tool","identifier":"x","actions":[]}])",
        R"([{"type":"mcp_tool","identifier":"x","actions":"call"}])",
        R"([{"type":"mcp_tool","identifier":"x","actions":["CALL"]}])",
        R"([{"type":"mcp_tool","identifier":"x","actions":["call"],"locations":[]}])",
        R"([{"type":"mcp_tool","identifier":"x","actions":["call"],"locations":"u"}])",
        R"([{"type":"mcp_tool","identifier":"x","actions":["call"],"constraints":{"a":[]}}])",
        R"([{"type":"mcp_tool","identifier":"x","actions":["call"],"constraints":{"a":"b"}}])",
        R"([{"type":"mcp_tool","identifier":"x","actions":["call"],"constraints":{"a":[1]}}])",
        R"([{"type":"mcp_tool","identifier":"x","actions":["call"],"constraints":[]}])",
        R"([{"type":"mcp_tool","identifier":"x","actions":["call"]}] x)"}) {
    EXPECT_EQ(code(bad), ErrorCode::InvalidAuthorizationDetails) << bad;
  }
}

TEST(Rfc9396_5, SizesAreBounded) {
  const auto many = [](std::size_t count, const Json& item) {
    return code_of(read_tool_details(Json(count, item)));
  };
  const Json good{{"type", "mcp_tool"}, {"identifier", "x"}, {"actions", Json::array({"call"})}};
  EXPECT_TRUE(read_tool_details(Json(32, good)).ok());
  EXPECT_EQ(many(33, good), ErrorCode::InvalidAuthorizationDetails);
  auto item = good;
  item["identifier"] = std::string(128, 'x');
  EXPECT_TRUE(read_tool_details(Json::array({item})).ok());
  item["identifier"] = std::string(129, 'x');
  EXPECT_EQ(many(1, item), ErrorCode::InvalidAuthorizationDetails);
  item = good;
  item["actions"] = Json(17, "call");
  EXPECT_EQ(many(1, item), ErrorCode::InvalidAuthorizationDetails);
  item = good;
  item["locations"] = Json(9, "https://a.example");
  EXPECT_EQ(many(1, item), ErrorCode::InvalidAuthorizationDetails);
  item = good;
  item["constraints"]["a"] = Json(33, "v");
  EXPECT_EQ(many(1, item), ErrorCode::InvalidAuthorizationDetails);
  EXPECT_EQ(code_of(parse_tool_details("[" + std::string(9000, ' ') + "]")),
            ErrorCode::InvalidAuthorizationDetails);
  EXPECT_EQ(code_of(parse_tool_details(std::string(4000, '['))),
            ErrorCode::InvalidAuthorizationDetails);
}

TEST(Tools, OnePatternWithinAnother) {
  for (const auto& [inner, outer] :
       std::vector<std::pair<const char*, const char*>>{{"a", "a"},
                                                        {"a", "*"},
                                                        {"*", "*"},
                                                        {"read_x", "read_*"},
                                                        {"read_", "read_*"},
                                                        {"read_*", "read_*"},
                                                        {"read_x*", "read_*"},
                                                        {"a*b", "a*"},
                                                        {"a*b", "*b"},
                                                        {"axbxc", "a*b*c"},
                                                        {"a*b*c", "a*c"},
                                                        {"aab", "*ab"},
                                                        {"**", "*"},
                                                        {"*", "**"}}) {
    EXPECT_TRUE(tool_within(inner, outer)) << inner << " in " << outer;
  }
  for (const auto& [inner, outer] :
       std::vector<std::pair<const char*, const char*>>{{"a", "b"},
                                                        {"*", "a"},
                                                        {"*", "a*"},
                                                        {"rea*", "read_*"},
                                                        {"a", "A"},
                                                        {"ab", "a"},
                                                        {"a", "ab"},
                                                        {"a*", "a"},
                                                        {"*b", "a*"},
                                                        {"a*c", "a*b*c"},
                                                        {"", "a"}}) {
    EXPECT_FALSE(tool_within(inner, outer)) << inner << " in " << outer;
  }
}

TEST(Tools, WhatLiesWithinMatchesNothingMore) {
  std::mt19937 random(20261121);
  const auto text = [&](const char* alphabet, std::size_t letters, std::size_t longest) {
    std::string out;
    for (auto n = random() % (longest + 1); n > 0; --n) out += alphabet[random() % letters];
    return out;
  };
  int within = 0;
  for (int i = 0; i < 20'000; ++i) {
    const auto inner = text("ab*", 3, 5);
    const auto outer = text("ab*", 3, 5);
    if (!tool_within(inner, outer)) continue;
    ++within;
    for (int j = 0; j < 20; ++j) {
      const auto name = text("ab", 2, 7);
      if (tool_within(name, inner)) {
        ASSERT_TRUE(tool_within(name, outer)) << name << " " << inner << " " << outer;
      }
    }
  }
  EXPECT_GT(within, 1000);
}

TEST(Tools, CoversAllActionsAndEveryConstraint) {
  auto limited = detail("write_*", {"call"});
  limited.constraints["path"] = {"/a", "/b"};
  const ToolDetails permitted{detail("read_*", {"call", "list"}), limited};
  EXPECT_TRUE(covers(permitted, detail("read_x")));
  EXPECT_TRUE(covers(permitted, detail("read_x", {"call", "list"})));
  EXPECT_FALSE(covers(permitted, detail("read_x", {"*"})));
  EXPECT_FALSE(covers(permitted, detail("read_x", {"delete"})));
  EXPECT_FALSE(covers(permitted, detail("*")));
  EXPECT_FALSE(covers({}, detail("read_x")));
  auto wanted = detail("write_x");
  EXPECT_FALSE(covers(permitted, wanted));  // without the constraint it is more
  wanted.constraints["path"] = {"/a"};
  EXPECT_TRUE(covers(permitted, wanted));
  wanted.constraints["mode"] = {"append"};
  EXPECT_TRUE(covers(permitted, wanted));
  wanted.constraints["path"] = {"/a", "/c"};
  EXPECT_FALSE(covers(permitted, wanted));
}

TEST(Tools, AnIntersectionIsCoveredByBoth) {
  std::mt19937 random(7);
  const auto any = [&](std::initializer_list<const char*> list) {
    return std::string(*(list.begin() + random() % list.size()));
  };
  const auto some = [&]() {
    ToolDetails out;
    for (auto n = random() % 3 + 1; n > 0; --n) {
      auto one =
          detail(any({"*", "read_*", "read_x", "*_x", "write_*"}), {any({"*", "call", "list"})});
      if (random() % 2 == 0) one.constraints["path"] = {any({"/a", "/b"})};
      out.push_back(std::move(one));
    }
    return out;
  };
  for (int i = 0; i < 5000; ++i) {
    const auto one = some();
    const auto other = some();
    for (const auto& both : intersect(one, other)) {
      ASSERT_TRUE(covers(one, both));
      ASSERT_TRUE(covers(other, both));
    }
  }
}

}  // namespace
}  // namespace postern::policy
