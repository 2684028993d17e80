#include "grants/touched_credentials.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "support/in_memory_audit_log.h"

namespace postern::grants {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;
using Fields = std::vector<std::pair<std::string, std::string>>;

constexpr sys_seconds kNow{std::chrono::seconds(1'790'000'000)};
const Suspect kClient{{}, "gw-01", {}};

/// What is found in one part, or in all of them.
struct Found {
  std::map<std::string, std::uint64_t> uses;
  std::map<std::string, sys_seconds> tokens;  ///< that found last counts
};

/// A trail, of which each search reads three records.
struct Trail {
  test::InMemoryAuditLog log;
  const TenantId tenant{"acme"};

  void add(std::chrono::seconds ago, const char* action, const Fields& fields) {
    audit::Event event{tenant, kNow - ago, action, audit::Outcome::Allowed, "", {}};
    for (const auto& [name, value] : fields) event.with(name, value);
    ASSERT_TRUE(log.append({&event, 1}).ok());
  }
  void add_release(std::chrono::seconds ago, const std::string& credential,
                   const std::string& client = "gw-01") {
    add(ago, "credential.release",
        {{"client", client}, {"credential", credential}, {"credential_owner", "tenant"}});
  }
  Touched part(const Suspect& suspect, std::uint64_t before, Found& found,
               std::chrono::seconds since = 24h, Leads leads = {}) {
    auto out = touched_by(log, tenant, suspect, kNow - since, kNow,
                          {.before = before, .most_records = 3, .leads = std::move(leads)});
    EXPECT_TRUE(out.ok());
    for (const auto& [key, touched] : out.value().credentials) {
      found.uses[key.name.str()] += touched.uses;
    }
    for (const auto& token : out.value().tokens) found.tokens[token.id] = token.expires_at;
    return std::move(out).value();
  }
  /// Goes on until all was looked at. How many searches that took.
  int all(const Suspect& suspect, Found& found, std::chrono::seconds since = 24h) {
    std::uint64_t before = 0;
    Leads leads;
    for (int parts = 1;; ++parts) {
      auto touched = part(suspect, before, found, since, std::move(leads));
      if (touched.complete) return parts;
      EXPECT_TRUE(before == 0 || touched.ended_at < before) << "or it would have no end";
      if (parts > 100) return parts;
      before = touched.ended_at;
      leads = std::move(touched.leads);
    }
  }
};

std::string expiry(std::chrono::seconds from_now) {
  return std::to_string((kNow + from_now).time_since_epoch().count());
}

TEST(TouchedCredentials, GoesOnWhereASearchEnded) {
  Trail trail;
  for (int i = 0; i < 10; ++i) {
    trail.add_release(10h - std::chrono::minutes(i), "c" + std::to_string(i % 9),
                      i == 4 ? "gw-02" : "gw-01");
  }
  Found newest;
  const auto first = trail.part(kClient, 0, newest);
  EXPECT_FALSE(first.complete);
  EXPECT_EQ(first.ended_at, 8U);
  EXPECT_EQ(first.reached, kNow - 10h + 7min);
  EXPECT_THAT(newest.uses, ElementsAre(Pair("c0", 1), Pair("c7", 1), Pair("c8", 1)));

  Found found;
  EXPECT_EQ(trail.all(kClient, found), 4);
  EXPECT_THAT(found.uses, ElementsAre(Pair("c0", 2), Pair("c1", 1), Pair("c2", 1), Pair("c3", 1),
                                      Pair("c5", 1), Pair("c6", 1), Pair("c7", 1), Pair("c8", 1)));
}

TEST(TouchedCredentials, EndsWhereTheTrailOrTheTimeBegins) {
  Trail trail;
  Found none;
  EXPECT_EQ(trail.all(kClient, none), 1);
  for (int i = 0; i < 3; ++i) trail.add_release(9h, "old");
  EXPECT_EQ(trail.all(kClient, none, 2h), 2) << "all of it is too old, or of a wrong clock";
  EXPECT_THAT(none.uses, IsEmpty());
  Found found;
  EXPECT_EQ(trail.all(kClient, found), 2) << "whether there are more shows the next search";
  EXPECT_THAT(found.uses, ElementsAre(Pair("old", 3)));
}

TEST(TouchedCredentials, ASessionThatBeganInAnOlderPartIsFound) {
  const Suspect of_backend{{}, {}, "github"};
  Trail trail;
  // The login says nothing of what the session is used for.
  trail.add(30min, "vault.login",
            {{"client", "gw-01"}, {"session", "s1"}, {"expires_at", expiry(30min)}});
  trail.add(30min, "vault.login",
            {{"client", "gw-01"}, {"session", "s2"}, {"expires_at", expiry(30min)}});
  trail.add_release(20min, "other");
  trail.add_release(19min, "other");
  trail.add(18min, "vault.read",
            {{"client", "gw-01"},
             {"session", "s1"},
             {"backend", "github"},
             {"credential", "github"},
             {"credential_owner", "tenant"}});
  Found newest;
  EXPECT_FALSE(trail.part(of_backend, 0, newest).complete);
  EXPECT_THAT(newest.tokens, ElementsAre(Pair("s1", testing::Ge(kNow + 30min))))
      << "revoked at once, and at least until it ends";
  Found found;
  EXPECT_EQ(trail.all(of_backend, found), 2);
  EXPECT_THAT(found.tokens, ElementsAre(Pair("s1", testing::Ge(kNow + 30min))));
}

TEST(TouchedCredentials, ASessionThatAnotherMadeIsFoundByWhatItDid) {
  Trail trail;
  trail.add(30min, "vault.login",
            {{"client", "gw-01"}, {"session", "s1"}, {"expires_at", expiry(30min)}});
  for (const auto* child : {"child", "unused"}) {
    trail.add(20min, "vault.token_create",
              {{"client", "gw-01"},
               {"session", "s1"},
               {"created", child},
               {"expires_at", expiry(10min)}});
  }
  trail.add(18min, "vault.read",
            {{"client", "gw-01"},
             {"session", "child"},
             {"backend", "github"},
             {"credential", "github"},
             {"credential_owner", "tenant"}});
  const auto tokens = [&](const Suspect& suspect) {
    const auto out = touched_by(trail.log, trail.tenant, suspect, kNow - 24h, kNow, {});
    EXPECT_TRUE(out.ok());
    std::map<std::string, sys_seconds> found;
    for (const auto& token : out.value().tokens) found[token.id] = token.expires_at;
    return found;
  };
  // The one that made it, which can make others, and with which all of them end.
  EXPECT_THAT(tokens({{}, {}, "github"}), ElementsAre(Pair("s1", kNow + 30min)));
  EXPECT_THAT(tokens(kClient), ElementsAre(Pair("s1", kNow + 30min)));
}

TEST(TouchedCredentials, TheFirstOfALineOfSessionsIsFoundInAnOlderPart) {
  Trail trail;
  trail.add(50min, "vault.login",
            {{"client", "gw-01"}, {"session", "s1"}, {"expires_at", expiry(10min)}});
  const auto make = [&](std::chrono::seconds ago, const char* by, const char* one) {
    trail.add(
        ago, "vault.token_create",
        {{"client", "gw-01"}, {"session", by}, {"created", one}, {"expires_at", expiry(10min)}});
  };
  make(45min, "s1", "s2");
  for (int i = 0; i < 4; ++i) trail.add_release(44min, "other");
  make(40min, "s2", "s3");
  trail.add(18min, "vault.read",
            {{"client", "gw-01"},
             {"session", "s3"},
             {"backend", "github"},
             {"credential", "github"},
             {"credential_owner", "tenant"}});
  Found found;
  EXPECT_EQ(trail.all({{}, {}, "github"}, found), 3);
  EXPECT_THAT(found.tokens, testing::Contains(Pair("s1", kNow + 10min)));
}

TEST(TouchedCredentials, WhatWasUnwrappedIsFoundInTheOlderPartWhereItWasRead) {
  Trail trail;
  const auto read = [&](const char* name, const char* id) {
    trail.add(20h, "vault.read",
              {{"client", "gw-02"},
               {"credential", name},
               {"credential_owner", "tenant"},
               {"wrapped", id}});
  };
  read("passed-on", "w1");
  read("waits", "w2");
  read("given", "w3");
  for (int i = 0; i < 4; ++i) trail.add_release(10h, "other", "gw-02");
  trail.add(3h, "vault.rewrap", {{"client", "gw-02"}, {"rewrapped", "w4"}, {"wrapped", "w1"}});
  for (int i = 0; i < 4; ++i) trail.add_release(2h, "other", "gw-02");
  trail.add(1h, "vault.unwrap", {{"client", "gw-01"}, {"wrapped", "w4"}});
  trail.add(1h, "vault.unwrap", {{"client", "gw-01"}, {"wrapped", "w3"}});
  Found found;
  EXPECT_GT(trail.all(kClient, found, 2h), 3) << "the reads are from before what is asked about";
  EXPECT_THAT(found.uses, ElementsAre(Pair("given", 1), Pair("passed-on", 1)));
}

TEST(TouchedCredentials, SessionsOfUnknownBeginningHaveABound) {
  Trail trail;
  const auto count = Leads::kMost + 10;
  trail.add(30min, "vault.login",
            {{"client", "gw-01"}, {"session", "s1"}, {"expires_at", expiry(30min)}});
  for (std::size_t i = 0; i < count; ++i) {
    trail.add(20min, "vault.token_create",
              {{"client", "gw-01"},
               {"session", "s1"},
               {"created", "c" + std::to_string(i)},
               {"expires_at", expiry(10min)}});
  }
  for (std::size_t i = 0; i < count; ++i) {
    trail.add(10min, "vault.read",
              {{"client", "gw-01"}, {"session", "c" + std::to_string(i)}, {"backend", "github"}});
  }
  for (const auto& suspect : {kClient, Suspect{{}, {}, "github"}}) {
    Found found;
    std::uint64_t before = 0;
    Leads leads;
    std::size_t tokens = 0;
    bool complete = false;
    for (int part = 0; part < 3 && !complete; ++part) {
      auto out = touched_by(trail.log, trail.tenant, suspect, kNow - 1h, kNow,
                            {.before = before, .most_records = count, .leads = leads});
      ASSERT_TRUE(out.ok());
      for (const auto& token : out.value().tokens) found.tokens[token.id] = token.expires_at;
      tokens += out.value().tokens.size();
      before = out.value().ended_at;
      leads = out.value().leads;
      complete = out.value().complete;
    }
    // There is only so much room, and with the one that made them they all end.
    EXPECT_LE(tokens, Leads::kMost + 2);
    EXPECT_THAT(found.tokens, testing::Contains(Pair("s1", kNow + 30min)));
    EXPECT_EQ(complete, suspect.backend.empty());
  }
}

TEST(TouchedCredentials, ASessionThatBeganAndEndedIsNoLead) {
  Trail trail;
  trail.add(40min, "other", {});
  trail.add(30min, "vault.login",
            {{"client", "gw-01"}, {"session", "s1"}, {"expires_at", expiry(-10min)}});
  trail.add(29min, "vault.read", {{"client", "gw-01"}, {"session", "s1"}, {"backend", "github"}});
  trail.add(28min, "other", {});
  Found found;
  const auto newest = trail.part({{}, {}, "github"}, 0, found);
  EXPECT_FALSE(newest.complete);
  EXPECT_THAT(newest.leads.sessions, IsEmpty());
  EXPECT_THAT(found.tokens, IsEmpty());
}

TEST(TouchedCredentials, OneRecordOfAWrongClockEndsNothing) {
  Trail trail;
  trail.add_release(1h, "github");
  for (int i = 0; i < 3; ++i) trail.add_release(48h, "behind");
  trail.add_release(30min, "jira");
  Found found;
  trail.all(kClient, found, 2h);
  EXPECT_THAT(found.uses, ElementsAre(Pair("github", 1), Pair("jira", 1)));
}

TEST(TouchedCredentials, LeadsThatAreTooManyAreNotPassedOverInSilence) {
  Trail trail;
  for (std::size_t i = 0; i <= Leads::kMost; ++i) {
    trail.add(20min, "vault.read", {{"client", "gw-02"}, {"wrapped", std::to_string(i)}});
  }
  for (std::size_t i = 0; i <= Leads::kMost; ++i) {
    trail.add(10min, "vault.unwrap", {{"client", "gw-01"}, {"wrapped", std::to_string(i)}});
  }
  const auto search = [&](std::uint64_t before, const Leads& leads) {
    auto out = touched_by(trail.log, trail.tenant, kClient, kNow - 1h, kNow,
                          {.before = before, .most_records = Leads::kMost + 1, .leads = leads});
    EXPECT_TRUE(out.ok());
    return std::move(out).value();
  };
  const auto newer = search(0, {});
  EXPECT_FALSE(newer.complete);
  EXPECT_EQ(newer.leads.given_at.size(), Leads::kMost);
  EXPECT_TRUE(newer.leads.some_left_out);
  const auto older = search(newer.ended_at, newer.leads);
  const auto end = search(older.ended_at, older.leads);
  EXPECT_FALSE(end.complete);
  EXPECT_EQ(end.ended_at, 0U) << "there is nothing more to look at";
}

TEST(TouchedCredentials, ASessionThatMustHaveEndedIsNoneToRevoke) {
  Trail trail;
  trail.add(6h, "vault.login",
            {{"client", "gw-01"}, {"session", "s1"}, {"expires_at", expiry(-5h)}});
  for (int i = 0; i < 3; ++i) {
    trail.add(5h, "vault.read",
              {{"client", "gw-01"},
               {"session", "s1"},
               {"credential", "github"},
               {"credential_owner", "tenant"}});
  }
  Found found;
  EXPECT_EQ(trail.all(kClient, found), 2);
  EXPECT_THAT(found.uses, ElementsAre(Pair("github", 3)));
  EXPECT_THAT(found.tokens, IsEmpty());
}

TEST(TouchedCredentials, ATokenIsFoundInWhicheverPartItWasIssued) {
  Trail trail;
  for (int i = 0; i < 7; ++i) {
    trail.add(
        40min, "token.exchange",
        {{"client", "gw-01"}, {"jti", "t" + std::to_string(i)}, {"expires_at", expiry(9min)}});
  }
  Found found;
  EXPECT_EQ(trail.all(kClient, found), 3);
  EXPECT_EQ(found.tokens.size(), 7U);
  for (const auto& [id, expires_at] : found.tokens) EXPECT_EQ(expires_at, kNow + 9min) << id;
}

}  // namespace
}  // namespace postern::grants
