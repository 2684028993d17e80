#include "policy/claim_rules.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace postern::policy {
namespace {

using token::Json;

const Json kClaims{{"tid", "t1"},
                   {"roles", {"reader", "writer"}},
                   {"mixed", {1, nullptr, "x", {{"a", "b"}}}},
                   {"number", 1},
                   {"flag", true},
                   {"empty", Json::array()},
                   {"https://acme.example/tier", "gold"},
                   {"realm_access", {{"roles", {"admin"}}, {"a/b", {{"~c", "deep"}}}}}};

TEST(ClaimRules, AClaimIsATextOrAnArrayThatHoldsOne) {
  for (const ClaimRules& rules : std::vector<ClaimRules>{
           {},
           {{"tid", {"t1"}}},
           {{"tid", {"t0", "t1"}}},
           {{"roles", {"writer"}}},
           {{"mixed", {"x"}}},
           {{"https://acme.example/tier", {"gold"}}},
           {{"/realm_access/roles", {"admin"}}},
           {{"/realm_access/a~1b/~0c", {"deep"}}},
           {{"tid", {"t1"}}, {"roles", {"reader"}}},
       }) {
    EXPECT_TRUE(satisfies(kClaims, rules)) << (rules.empty() ? "" : rules.begin()->first);
  }
}

TEST(ClaimRules, EveryListedClaimMustBeThere) {
  for (const ClaimRules& rules : std::vector<ClaimRules>{
           {{"tid", {"t2"}}},
           {{"tid", {"T1"}}},
           {{"tid", {"t1 "}}},
           {{"tid", {"t"}}},
           {{"tid", {}}},
           {{"absent", {"t1"}}},
           {{"", {"t1"}}},
           {{"/", {"t1"}}},
           {{"/tid/x", {"t1"}}},
           {{"roles", {"read"}}},
           {{"roles", {"reader,writer"}}},
           {{"mixed", {"1", "null", "b"}}},
           {{"number", {"1"}}},
           {{"flag", {"true"}}},
           {{"empty", {"x"}}},
           {{"realm_access", {"admin"}}},
           {{"/realm_access/roles/0", {"admin"}}},
           {{"/realm_access/a/b", {"deep"}}},
           {{"/https:~1~1acme.example~1tier", {"silver"}}},
           {{"tid", {"t1"}}, {"roles", {"admin"}}},
       }) {
    EXPECT_FALSE(satisfies(kClaims, rules)) << rules.begin()->first;
  }
}

TEST(ClaimRules, NothingThatIsNoObjectSatisfiesAnything) {
  for (const Json& claims : {Json(), Json("tid"), Json::array({"tid"}), Json::object()}) {
    EXPECT_FALSE(satisfies(claims, {{"tid", {"t1"}}}));
  }
}

}  // namespace
}  // namespace postern::policy
