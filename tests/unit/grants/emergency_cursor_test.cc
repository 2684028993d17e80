#include "grants/emergency_cursor.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "crypto/base64url.h"
#include "support/code_of.h"

namespace postern::grants {
namespace {

using namespace std::chrono_literals;
using test::code_of;

constexpr sys_seconds kNow{std::chrono::seconds(1'790'000'000)};

EmergencyCursor sample() {
  EmergencyCursor cursor;
  cursor.order = "what it is of";
  cursor.begun_at = kNow - 60s;
  cursor.part.before = 4711;
  cursor.part.most_records = 3;
  cursor.part.leads.given_at = {{"w1", kNow - 1h}, {"w2", kNow - 2h}};
  cursor.part.leads.read_after = kNow - 26h;
  cursor.part.leads.sessions = {"s1", "s2"};
  cursor.part.leads.some_left_out = true;
  cursor.after = vault::CredentialKey{Owner::principal({"https://idp", "alice\n\"x"}),
                                      CredentialName("github")};
  return cursor;
}

void expect_same(const EmergencyCursor& one, const EmergencyCursor& other) {
  EXPECT_EQ(one.order, other.order);
  EXPECT_EQ(one.begun_at, other.begun_at);
  EXPECT_EQ(one.part.before, other.part.before);
  EXPECT_EQ(one.part.most_records, other.part.most_records);
  EXPECT_EQ(one.part.leads.given_at, other.part.leads.given_at);
  EXPECT_EQ(one.part.leads.read_after, other.part.leads.read_after);
  EXPECT_EQ(one.part.leads.sessions, other.part.leads.sessions);
  EXPECT_EQ(one.part.leads.some_left_out, other.part.leads.some_left_out);
  EXPECT_EQ(one.after, other.after);
}

TEST(EmergencyCursor, IsReadAsItWasWritten) {
  auto cursor = sample();
  for (const auto& after :
       {cursor.after, std::optional(vault::CredentialKey{Owner::tenant(), CredentialName("x")}),
        std::optional<vault::CredentialKey>()}) {
    cursor.after = after;
    const auto read = read_emergency_cursor(write(cursor), kNow);
    ASSERT_TRUE(read.ok());
    expect_same(read.value(), cursor);
  }
  cursor.part = {};
  const auto read = read_emergency_cursor(write(cursor), kNow);
  ASSERT_TRUE(read.ok());
  expect_same(read.value(), cursor);
}

TEST(EmergencyCursor, OfAReplicaWhoseClockIsAheadIsTaken) {
  auto cursor = sample();
  cursor.begun_at = kNow + 4min;
  EXPECT_TRUE(read_emergency_cursor(write(cursor), kNow).ok());
  cursor.begun_at = kNow + 6min;
  EXPECT_EQ(code_of(read_emergency_cursor(write(cursor), kNow)), ErrorCode::MalformedRequest);
}

TEST(EmergencyCursor, FitsWithAllThatItMayHave) {
  auto cursor = sample();
  cursor.order = std::string(43, 'o');
  cursor.after = vault::CredentialKey{
      Owner::principal({std::string(500, 'i'), std::string(255, 's')}), CredentialName("github")};
  cursor.part.leads = {};
  for (std::size_t i = 0; i < Leads::kMost; ++i) {
    const auto id = std::to_string(1000 + i) + std::string(18, 'x');  // 22, as ids have
    cursor.part.leads.given_at[id] = kNow;
    cursor.part.leads.sessions.insert(id);
  }
  cursor.part.leads.read_after = kNow;
  const auto text = write(cursor);
  EXPECT_LE(text.size(), EmergencyCursor::kMaxBytes);
  const auto read = read_emergency_cursor(text, kNow);
  ASSERT_TRUE(read.ok());
  expect_same(read.value(), cursor);
  cursor.part.leads.sessions.insert("one more");
  EXPECT_FALSE(read_emergency_cursor(write(cursor), kNow).ok());
}

TEST(EmergencyCursor, IsNothingElse) {
  const std::string good = R"("order":"x","begun_at":1789999940,"records":3,"before":0)";
  const auto read = [](const std::string& json) {
    return read_emergency_cursor(crypto::base64url(as_bytes(json)), kNow);
  };
  ASSERT_TRUE(read("{" + good + "}").ok());
  for (const std::string json :
       {R"()", R"(null)", R"([])", R"({})", R"("x")",
        R"({"begun_at":1789999940,"records":3,"before":0})",
        R"({"order":1,"begun_at":1789999940,"records":3,"before":0})",
        R"({"order":"","begun_at":1789999940,"records":3,"before":0})",
        R"({"order":"x","begun_at":1789999940,"records":3})",
        R"({"order":"x","begun_at":1789999940,"before":0})",
        R"({"order":"x","records":3,"before":0})",
        R"({"order":"x","begun_at":"1","records":3,"before":0})",
        R"({"order":"x","begun_at":-1,"records":3,"before":0})",
        R"({"order":"x","begun_at":18446744073709551615,"records":3,"before":0})",
        R"({"order":"x","begun_at":1789999940,"records":0,"before":0})",
        R"({"order":"x","begun_at":1789999940,"records":500001,"before":0})",
        R"({"order":"x","begun_at":1789999940,"records":3,"before":-1})",
        R"({"order":"x","begun_at":1789999940,"records":3,"before":9223372036854775808})"}) {
    EXPECT_EQ(code_of(read(json)), ErrorCode::MalformedRequest) << json;
  }
  for (const std::string more : {R"("more":1)",
                                 R"("left_out":false)",
                                 R"("left_out":1)",
                                 R"("sessions":[])",
                                 R"("sessions":[1])",
                                 R"("sessions":[""])",
                                 R"("sessions":["a","a"])",
                                 R"("sessions":{})",
                                 R"("given":{"a":1})",
                                 R"("given":{},"read_after":1)",
                                 R"("given":[],"read_after":1)",
                                 R"("given":{"a":"1"},"read_after":1)",
                                 R"("given":{"":1},"read_after":1)",
                                 R"("given":{"a":1},"read_after":1790000999)",
                                 R"("read_after":1)",
                                 R"("after":[])",
                                 R"("after":["","","a","b"])",
                                 R"("after":["i","","a"])",
                                 R"("after":["","s","a"])",
                                 R"("after":["","","A B"])",
                                 R"("after":["","",1])",
                                 R"("after":null)"}) {
    EXPECT_EQ(code_of(read("{" + good + "," + more + "}")), ErrorCode::MalformedRequest) << more;
  }
  for (const auto* text : {"", "{", "=", "e30=", "\xff"}) {
    EXPECT_EQ(code_of(read_emergency_cursor(text, kNow)), ErrorCode::MalformedRequest) << text;
  }
  EXPECT_EQ(code_of(read_emergency_cursor(std::string(EmergencyCursor::kMaxBytes + 1, 'A'), kNow)),
            ErrorCode::MalformedRequest);
}

}  // namespace
}  // namespace postern::grants
