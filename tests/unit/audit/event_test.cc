#include "audit/event.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "core/time_format.h"

namespace postern::audit {
namespace {

Event exchange() {
  return {TenantId("acme"),   *parse_time("2026-11-21T05:40:00Z"),
          "token.exchange",   Outcome::Refused,
          "0af7651916cd43dd", {}};
}

TEST(AuditEvent, HasOneCanonicalForm) {
  auto event = exchange();
  event.with("target", "https://mcp.example/").with("client", "gateway").with("jti", "x1");
  EXPECT_EQ(canonical(event),
            R"({"action":"token.exchange","at":"2026-11-21T05:40:00Z",)"
            R"("fields":{"client":"gateway","jti":"x1","target":"https://mcp.example/"},)"
            R"("outcome":"refused","request_id":"0af7651916cd43dd"})");
}

TEST(AuditEvent, NeverNamesItsTenant) {
  // The chain binds the tenant; see link().
  EXPECT_EQ(canonical(exchange()).find("acme"), std::string::npos);
}

TEST(AuditEvent, HasAllMembersWhenEmpty) {
  const Event event{TenantId("acme"), sys_seconds{}, "", Outcome::Allowed, "", {}};
  EXPECT_EQ(canonical(event),
            R"({"action":"","at":"1970-01-01T00:00:00Z","fields":{},"outcome":"allowed",)"
            R"("request_id":""})");
}

TEST(AuditEvent, TheOrderOfFieldsDoesNotMatter) {
  auto one = exchange();
  one.with("a", "1").with("b", "2").with("c", "3");
  auto other = exchange();
  other.with("c", "3").with("a", "1").with("b", "2");
  EXPECT_EQ(canonical(one), canonical(other));
}

TEST(AuditEvent, LeavesOutEmptyValues) {
  auto event = exchange();
  event.with("actor", "");
  EXPECT_TRUE(event.fields.empty());
  event.fields.emplace_back("actor", "");
  EXPECT_EQ(canonical(event), canonical(exchange()));
}

TEST(AuditEvent, KeepsTheFirstOfARepeatedField) {
  auto event = exchange();
  event.with("client", "first").with("a", "x").with("client", "second");
  EXPECT_NE(canonical(event).find(R"("fields":{"a":"x","client":"first"})"), std::string::npos);
}

std::string escaped(std::string_view value) {
  auto event = exchange();
  event.with("v", value);
  const auto text = canonical(event);
  const auto start = text.find(R"("v":")") + 5;
  return text.substr(start, text.find(R"("},"outcome")") - start);
}

TEST(AuditEvent, EscapesControlCharactersAlike) {
  EXPECT_EQ(escaped("a\nb\tc\x01\x1f\x7f"), R"(a\u000ab\u0009c\u0001\u001f\u007f)");
  EXPECT_EQ(escaped(std::string_view("a\0b", 3)), R"(a\u0000b)");
}

TEST(AuditEvent, EscapesQuoteAndBackslash) {
  EXPECT_EQ(escaped(R"(say "hi" \o/)"), R"(say \"hi\" \\o/)");
}

TEST(AuditEvent, CannotBeForgedThroughAValue) {
  auto event = exchange();
  event.with("v", R"(x"},"outcome":"allowed","request_id":"forged"})");
  const auto parsed = nlohmann::json::parse(canonical(event));
  EXPECT_EQ(parsed["outcome"], "refused");
  EXPECT_EQ(parsed.size(), 5u);
}

TEST(AuditEvent, EscapesWhatIsNotAscii) {
  EXPECT_EQ(escaped("\xC3\xA9"), R"(\u00e9)");                        // é
  EXPECT_EQ(escaped("\xE2\x82\xAC"), R"(\u20ac)");                    // €
  EXPECT_EQ(escaped("\xF0\x9F\x94\x91"), R"(\ud83d\udd11)");          // U+1F511
  EXPECT_EQ(escaped("\xEF\xBF\xBF"), R"(\uffff)");                    // U+FFFF
  EXPECT_EQ(escaped("\xF4\x8F\xBF\xBF"), R"(\udbff\udfff)");          // U+10FFFF
  EXPECT_EQ(escaped("\xEE\x80\x80\xED\x9F\xBF"), R"(\ue000\ud7ff)");  // around the surrogates
}

TEST(AuditEvent, ReplacesInvalidUtf8) {
  EXPECT_EQ(escaped("a\xFFz"), R"(a\ufffdz)");
  EXPECT_EQ(escaped("\x80"), R"(\ufffd)");                      // stray continuation
  EXPECT_EQ(escaped("\xC0\xAF"), R"(\ufffd\ufffd)");            // overlong slash
  EXPECT_EQ(escaped("\xE0\x80\xAF"), R"(\ufffd\ufffd\ufffd)");  // overlong
  EXPECT_EQ(escaped("\xF0\x80\x80\x80"), R"(\ufffd\ufffd\ufffd\ufffd)");
  EXPECT_EQ(escaped("\xED\xA0\x80"), R"(\ufffd\ufffd\ufffd)");            // surrogate
  EXPECT_EQ(escaped("\xF4\x90\x80\x80"), R"(\ufffd\ufffd\ufffd\ufffd)");  // past U+10FFFF
  EXPECT_EQ(escaped("\xF5\x80\x80\x80"), R"(\ufffd\ufffd\ufffd\ufffd)");
  EXPECT_EQ(escaped("\xE2\x82"), R"(\ufffd\ufffd)");  // cut off
  EXPECT_EQ(escaped("\xE2\x82z"), R"(\ufffd\ufffdz)");
}

TEST(AuditEvent, IsAsciiJsonWhateverTheBytes) {
  std::mt19937 random(20261121);
  for (int i = 0; i < 2000; ++i) {
    auto event = exchange();
    for (std::size_t f = 0; f < random() % 5; ++f) {
      std::string name(random() % 6, ' ');
      std::string value(random() % 40, ' ');
      for (auto* text : {&name, &value}) {
        for (auto& c : *text) c = static_cast<char>(random());
      }
      event.with(name, value);
    }
    const auto text = canonical(event);
    for (const char c : text) ASSERT_TRUE(c >= 0x20 && c < 0x7f) << "iteration " << i;
    const auto parsed = nlohmann::json::parse(text, nullptr, false);
    ASSERT_FALSE(parsed.is_discarded()) << "iteration " << i;
    ASSERT_EQ(parsed["action"], "token.exchange");
  }
}

TEST(AuditEvent, KeepsValidTextReadable) {
  const std::string value = "Zo\xC3\xAB \xF0\x9F\x94\x91 \"x\" \\ \n";
  auto event = exchange();
  event.with("v", value);
  EXPECT_EQ(nlohmann::json::parse(canonical(event))["fields"]["v"], value);
}

TEST(AuditEvent, OutcomesHaveNames) {
  EXPECT_EQ(to_string(Outcome::Allowed), "allowed");
  EXPECT_EQ(to_string(Outcome::Refused), "refused");
  EXPECT_EQ(to_string(Outcome::Failed), "failed");
}

}  // namespace
}  // namespace postern::audit
