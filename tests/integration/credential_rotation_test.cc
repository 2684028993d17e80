// A rotation that is killed anywhere, done by two at once, passed by another value, or
// refused outside: what is handed out is what is valid outside, always.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <pqxx/pqxx>
#include <string>
#include <thread>
#include <vector>

#include "storage/postgres_erasure_store.h"
#include "storage/postgres_rotation_store.h"
#include "support/code_of.h"
#include "support/rotation_world.h"
#include "vault/rotation.h"

namespace postern::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using vault::RotationKind;
using vault::RotationPhase;
using Order = grants::CredentialRotations::Order;

/// What is handed out is taken outside, and nothing else of these roles is.
void expect_agreement(RotationWorld& world, const std::string& name, const std::string& what) {
  const auto value = world.value(name);
  const auto colon = value.find(':');
  ASSERT_NE(colon, value.npos) << what << ": " << value;
  EXPECT_EQ(world.server.passwords[value.substr(0, colon)], value.substr(colon + 1)) << what;
}

std::string states(RotationWorld& world, const std::string& name) {
  std::string out;
  for (const auto& each :
       must(world.stores.credentials.history(world.tenant, world.key(name))).versions) {
    out += (out.empty() ? "" : ", ") + std::to_string(each.version) + ' ' +
           std::string(to_string(each.state()));
  }
  return out;
}

std::size_t rows_of_versions(RotationWorld& world, const std::string& name) {
  pqxx::connection connection(world.stores.superuser());
  pqxx::work tx(connection);
  return tx
      .exec("SELECT count(*) FROM postern.credential_version WHERE name = '" + name + "'")[0][0]
      .as<std::size_t>();
}

struct Case {
  const char* name;
  std::vector<std::string> roles;
};
const Case kCases[] = {{"one-role", {"app"}}, {"two-roles", {"app", "app_b"}}};

TEST(CredentialRotation, PassesEachPhaseAndKeepsTheValueBeforeForItsGrace) {
  RotationWorld world;
  world.put("db", "app", "old");
  world.server.passwords["app"] = "old";
  const auto key = world.key("db");
  const auto process = world.process();
  auto settings = world.settings({"app", "app_b"});
  settings.interval = 24h;
  const auto set = process->configure(world.tenant, key, settings, world.record());
  ASSERT_TRUE(set.ok()) << set.error().detail;
  EXPECT_EQ(set.value().description.rotation_due_at, world.clock.now() + 24h);

  const auto begun = process->rotate(world.tenant, key, {}, world.record());
  ASSERT_TRUE(begun.ok()) << begun.error().detail << begun.error().diagnostic;
  EXPECT_EQ(begun.value().phase, RotationPhase::Pending);
  EXPECT_EQ(world.value("db"), "app:old") << "nobody sees it yet";
  EXPECT_EQ(states(world, "db"), "1 live");
  EXPECT_EQ(code_of(world.stores.credentials.version(world.tenant, key, 2)), ErrorCode::NotFound);
  EXPECT_EQ(world.server.passwords.size(), 1U) << "nothing outside was changed";

  const auto current = process->go_on(world.tenant, key);
  ASSERT_TRUE(current.ok()) << current.error().detail;
  EXPECT_EQ(current.value().phase, RotationPhase::Previous);
  EXPECT_EQ(current.value().description.rotation_due_at, world.clock.now() + 24h);
  EXPECT_EQ(states(world, "db"), "1 live, 2 live");
  EXPECT_EQ(world.server.passwords["app"], "old") << "the one before is still valid";
  expect_agreement(world, "db", "current");

  world.clock.advance(59min);
  EXPECT_EQ(must(process->go_on(world.tenant, key)).phase, RotationPhase::Previous);
  world.clock.advance(1min);
  EXPECT_EQ(must(process->go_on(world.tenant, key)).phase, RotationPhase::None);
  EXPECT_EQ(states(world, "db"), "1 destroyed, 2 live");
  EXPECT_EQ(world.server.passwords.count("app"), 0U);
  expect_agreement(world, "db", "retired");
  EXPECT_TRUE(must(world.stores.log.verify(world.tenant)).intact);
}

TEST(CredentialRotation, KilledAnywhereEndsAllTheSame) {
  for (const auto& [name, roles] : kCases) {
    for (const bool before : {true, false}) {
      int died = 0;
      for (int n = 1;; ++n) {
        RotationWorld world;
        world.put("db", "app", "old");
        world.server.passwords["app"] = "old";
        const auto key = world.key("db");
        ASSERT_TRUE(world.process()
                        ->configure(world.tenant, key, world.settings(roles), world.record())
                        .ok());
        const auto what =
            std::string(name) + (before ? ", before " : ", after ") + std::to_string(n);
        world.fate = {n, before, 0};
        bool ended = false;
        try {
          const auto process = world.process();
          static_cast<void>(process->rotate(world.tenant, key, {}, world.record()));
          static_cast<void>(process->go_on(world.tenant, key));
          world.clock.advance(2h);
          static_cast<void>(process->go_on(world.tenant, key));
          ended = true;
        } catch (const Died&) {
          ++died;
        }
        world.fate = {};
        auto now = world.settle("db");
        if (now.phase == RotationPhase::None && !now.rotated_at) {
          // Killed before anything was written.
          EXPECT_EQ(world.value("db"), "app:old") << what;
        } else {
          world.clock.advance(2h);
          now = world.settle("db");
          EXPECT_EQ(now.phase, RotationPhase::None) << what;
          EXPECT_TRUE(now.rotated_at.has_value()) << what;
          EXPECT_NE(world.value("db"), "app:old") << what;
          EXPECT_EQ(states(world, "db"), "1 destroyed, 2 live") << what;
          EXPECT_EQ(world.server.passwords.size(), 1U) << what;
        }
        expect_agreement(world, "db", what);
        EXPECT_EQ(now.problem, "") << what;
        EXPECT_TRUE(must(world.stores.log.verify(world.tenant)).intact) << what;
        if (ended) break;
      }
      EXPECT_GE(died, 9) << "there is that much to die at";
    }
  }
}

TEST(CredentialRotation, KilledAnywhereOfARollBackLeavesThingsAsTheyWere) {
  for (const auto& [name, roles] : kCases) {
    for (const bool before : {true, false}) {
      for (int n = 1;; ++n) {
        RotationWorld world;
        world.put("db", "app", "old");
        world.server.passwords["app"] = "old";
        const auto key = world.key("db");
        ASSERT_TRUE(world.process()
                        ->configure(world.tenant, key, world.settings(roles), world.record())
                        .ok());
        const auto what =
            std::string(name) + (before ? ", before " : ", after ") + std::to_string(n);
        const auto refused = fail(ErrorCode::Conflict, "the new password is not taken");
        world.server.failures["test"] = {refused, refused, refused};
        world.fate = {n, before, 0};
        bool ended = false;
        try {
          const auto process = world.process();
          static_cast<void>(process->rotate(world.tenant, key, {}, world.record()));
          static_cast<void>(process->go_on(world.tenant, key));
          ended = true;
        } catch (const Died&) {
        }
        world.fate = {};
        const auto now = world.settle("db");
        EXPECT_EQ(now.phase, RotationPhase::None) << what;
        EXPECT_EQ(world.value("db"), "app:old") << what;
        EXPECT_EQ(world.server.passwords, (std::map<std::string, std::string>{{"app", "old"}}))
            << what;
        EXPECT_EQ(rows_of_versions(world, "db"), 1U) << what << ": the new value is no more";
        if (ended) {
          EXPECT_EQ(now.problem, "the new password is not taken");
          EXPECT_EQ(now.failures, 1U);
          break;
        }
      }
    }
  }
}

TEST(CredentialRotation, AValueThatIsGivenMeanwhileWins) {
  for (const auto& [name, roles] : kCases) {
    for (int n = 1; n < 40; ++n) {
      RotationWorld world;
      world.put("db", "app", "old");
      world.server.passwords["app"] = "old";
      const auto key = world.key("db");
      ASSERT_TRUE(world.process()
                      ->configure(world.tenant, key, world.settings(roles), world.record())
                      .ok());
      const auto what = std::string(name) + ", at " + std::to_string(n);
      world.fate = {n, false, 0};
      bool ended = false;
      try {
        const auto process = world.process();
        static_cast<void>(process->rotate(world.tenant, key, {}, world.record()));
        static_cast<void>(process->go_on(world.tenant, key));
        ended = true;
      } catch (const Died&) {
      }
      world.fate = {};
      const auto promoted = must(world.rows.find(world.tenant, key)).version != 1;
      // Somebody sets one outside too, as whoever gives a value has to.
      world.put("db", "app", "by hand");
      world.server.passwords["app"] = "by hand";
      auto now = world.settle("db");
      world.clock.advance(2h);
      now = world.settle("db");
      EXPECT_EQ(now.phase, RotationPhase::None) << what;
      EXPECT_EQ(world.value("db"), "app:by hand") << what;
      expect_agreement(world, "db", what);
      const auto kept = states(world, "db");
      EXPECT_EQ(kept.find("2 live") != kept.npos, promoted) << what << ": " << kept;
      if (ended) break;
    }
  }
}

TEST(CredentialRotation, AValueThatIsGivenWhileAStepIsUnderWayWins) {
  for (const auto& [name, roles] : kCases) {
    RotationWorld world;
    world.put("db", "app", "old");
    world.server.passwords["app"] = "old";
    const auto key = world.key("db");
    const auto process = world.process();
    ASSERT_TRUE(process->configure(world.tenant, key, world.settings(roles), world.record()).ok());
    world.server.on_set = [&] {
      world.server.on_set = nullptr;
      world.put("db", "app", "by hand");
      world.server.passwords["app"] = "by hand";
      // Another replica would undo it now; but the step that is under way is not its own.
      EXPECT_EQ(code_of(world.process()->go_on(world.tenant, key)), ErrorCode::Conflict);
    };
    ASSERT_TRUE(process->rotate(world.tenant, key, {}, world.record()).ok());
    static_cast<void>(process->go_on(world.tenant, key));
    const auto now = world.settle("db");
    EXPECT_EQ(now.phase, RotationPhase::None) << name;
    EXPECT_EQ(world.value("db"), "app:by hand") << name;
    expect_agreement(world, "db", name);
  }
}

TEST(CredentialRotation, AStepThatEndsAfterItsTimeIsRepaired) {
  RotationWorld world;
  world.put("db", "app", "old");
  world.server.passwords["app"] = "old";
  const auto key = world.key("db");
  const auto process = world.process();
  ASSERT_TRUE(process->configure(world.tenant, key, world.settings({"app"}), world.record()).ok());
  world.server.on_set = [&] {
    world.server.on_set = nullptr;
    // This process stood still; meanwhile another one took over, and an admin gave it up.
    world.clock.advance(10min);
    ASSERT_TRUE(world.process()->cancel(world.tenant, key, world.record()).ok());
    EXPECT_EQ(world.settle("db").phase, RotationPhase::None);
    EXPECT_EQ(world.server.passwords["app"], "old");
  };
  ASSERT_TRUE(process->rotate(world.tenant, key, {}, world.record()).ok());
  EXPECT_EQ(code_of(process->go_on(world.tenant, key)), ErrorCode::Conflict);
  EXPECT_NE(world.server.passwords["app"], "old") << "the late step did its harm";
  EXPECT_EQ(world.settle("db").phase, RotationPhase::None);
  expect_agreement(world, "db", "repaired");
}

TEST(CredentialRotation, AStepThatEndsAfterAnotherDidItAllTakesNothingAway) {
  RotationWorld world;
  world.put("db", "app", "old");
  world.server.passwords["app"] = "old";
  const auto key = world.key("db");
  const auto process = world.process();
  auto settings = world.settings({"app"});
  settings.grace = 0s;
  ASSERT_TRUE(process->configure(world.tenant, key, settings, world.record()).ok());
  world.server.on_set = [&] {
    world.server.on_set = nullptr;
    world.clock.advance(10min);
    const auto now = world.settle("db");
    EXPECT_EQ(now.phase, RotationPhase::None);
    EXPECT_EQ(now.version, 2U);
  };
  ASSERT_TRUE(process->rotate(world.tenant, key, {}, world.record()).ok());
  EXPECT_EQ(code_of(process->go_on(world.tenant, key)), ErrorCode::Conflict);
  EXPECT_EQ(world.settle("db").phase, RotationPhase::None);
  EXPECT_EQ(states(world, "db"), "1 destroyed, 2 live");
  expect_agreement(world, "db", "after the late step");
}

TEST(CredentialRotation, AValueThatWasHandedOutIsNeverDropped) {
  RotationWorld world;
  world.put("db", "app", "old");
  const auto key = world.key("db");
  const auto process = world.process();
  const auto given = world.log_in("app", "new");
  Order order;
  order.given = &given;
  order.grace = 1h;
  ASSERT_TRUE(process->rotate(world.tenant, key, order, world.record()).ok());
  using Effect = vault::CredentialRotationStore::Effect;
  ASSERT_TRUE(world.rows
                  .change(world.tenant, key, "",
                          [](vault::CredentialRotation& is) -> Result<Effect> {
                            is.phase = RotationPhase::None;
                            return Effect{Effect::Versions::DropNew, {}};
                          })
                  .ok());
  EXPECT_EQ(world.value("db"), "app:new");
}

TEST(CredentialRotation, WhatNobodyOutsideHeardOfIsRolledBackHereAlone) {
  const auto refused = fail(ErrorCode::Conflict, "it was refused");
  struct Cause {
    const char* name;
    std::function<void(RotationWorld&)> make;
  };
  const Cause causes[] = {
      {"the role cannot be altered",
       [&](RotationWorld& world) { world.server.refuses.emplace("set", refused); }},
      {"the server takes nobody",
       [](RotationWorld& world) {
         world.server.refuses.emplace("connect", fail(ErrorCode::Unavailable, "it is away"));
       }},
      {"the operator took the host away",
       [](RotationWorld& world) {
         world.server.out_of_bounds = fail(ErrorCode::Forbidden, "not there");
       }},
      {"the admin credential is gone",
       [](RotationWorld& world) {
         ASSERT_TRUE(
             world.stores.credentials.remove(world.tenant, world.key("pg-admin"), std::nullopt, {})
                 .ok());
       }},
      {"an admin gave it up", [](RotationWorld& world) {
         const auto given_up =
             world.process()->cancel(world.tenant, world.key("db"), world.record());
         ASSERT_TRUE(given_up.ok());
         EXPECT_EQ(given_up.value().phase, RotationPhase::None) << "at once";
       }}};
  for (const auto& cause : causes) {
    for (const auto& [name, roles] : kCases) {
      const auto what = std::string(cause.name) + ", " + name;
      RotationWorld world;
      world.put("db", "app", "old");
      world.server.passwords["app"] = "old";
      const auto key = world.key("db");
      const auto process = world.process();
      ASSERT_TRUE(
          process->configure(world.tenant, key, world.settings(roles), world.record()).ok());
      ASSERT_TRUE(process->rotate(world.tenant, key, {}, world.record()).ok());
      world.server.refuses.emplace("undo", refused);  // for whatever reason it was for set
      cause.make(world);
      const auto now = world.settle("db");
      EXPECT_EQ(now.phase, RotationPhase::None) << what;
      EXPECT_EQ(now.failures, 1U) << what;
      EXPECT_NE(now.problem, "") << what;
      EXPECT_EQ(world.value("db"), "app:old") << what;
      EXPECT_EQ(world.server.passwords.size(), 1U) << what;
      EXPECT_EQ(rows_of_versions(world, "db"), 1U) << what;
      EXPECT_TRUE(process->may_rotate(now).ok()) << what;
    }
  }
}

TEST(CredentialRotation, WhatCannotBeEndedOutsideIsAbandoned) {
  RotationWorld world;
  world.put("db", "app", "old");
  world.server.passwords["app"] = "old";
  const auto key = world.key("db");
  const auto process = world.process();
  ASSERT_TRUE(
      process->configure(world.tenant, key, world.settings({"app", "app_b"}), world.record()).ok());
  const auto refused = fail(ErrorCode::Conflict, "it was refused");
  world.server.refuses.emplace("test", refused);
  world.server.refuses.emplace("undo", refused);
  const auto abandon = [&](RotationPhase phase) {
    return process->abandon(world.tenant, key, phase, world.record());
  };
  ASSERT_TRUE(process->rotate(world.tenant, key, {}, world.record()).ok());
  EXPECT_EQ(code_of(abandon(RotationPhase::RollingBack)), ErrorCode::Conflict) << "not yet";
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(process->go_on(world.tenant, key).ok());
    world.clock.advance(2h);
  }
  EXPECT_EQ(must(process->find(world.tenant, key)).phase, RotationPhase::RollingBack);
  EXPECT_EQ(code_of(abandon(RotationPhase::Previous)), ErrorCode::Conflict);
  ASSERT_TRUE(
      world.rows.take(world.tenant, key, {"other", world.clock.now() + 2min}, world.clock.now())
          .ok());
  EXPECT_EQ(code_of(abandon(RotationPhase::RollingBack)), ErrorCode::Conflict)
      << "somebody is telling the outside";
  ASSERT_TRUE(world.rows.give_back(world.tenant, key, "other").ok());
  const auto ended = abandon(RotationPhase::RollingBack);
  ASSERT_TRUE(ended.ok()) << ended.error().detail;
  EXPECT_EQ(ended.value().phase, RotationPhase::None);
  EXPECT_THAT(ended.value().problem, HasSubstr("abandoned: the new value may be valid outside"));
  EXPECT_EQ(world.value("db"), "app:old");
  EXPECT_EQ(rows_of_versions(world, "db"), 1U);

  // The way out of the other end.
  world.server.refuses.clear();
  world.server.refuses.emplace("retire", refused);
  ASSERT_TRUE(process->rotate(world.tenant, key, {}, world.record()).ok());
  ASSERT_TRUE(process->go_on(world.tenant, key).ok());
  ASSERT_TRUE(process->end_grace(world.tenant, key, world.record()).ok());
  ASSERT_TRUE(process->go_on(world.tenant, key).ok());
  const auto left = abandon(RotationPhase::Previous);
  ASSERT_TRUE(left.ok()) << left.error().detail;
  EXPECT_EQ(left.value().phase, RotationPhase::None);
  EXPECT_THAT(left.value().problem, HasSubstr("the value before may be valid outside"));
  EXPECT_EQ(states(world, "db"), "1 destroyed, 3 live");
  EXPECT_TRUE(must(world.stores.log.verify(world.tenant)).intact);
}

TEST(CredentialRotation, OfOneRoleThereIsNothingToRetire) {
  RotationWorld world;
  world.put("db", "app", "old");
  world.server.passwords["app"] = "old";
  const auto key = world.key("db");
  const auto process = world.process();
  ASSERT_TRUE(process->configure(world.tenant, key, world.settings({"app"}), world.record()).ok());
  ASSERT_TRUE(process->rotate(world.tenant, key, {}, world.record()).ok());
  ASSERT_EQ(must(process->go_on(world.tenant, key)).phase, RotationPhase::Previous);
  ASSERT_TRUE(
      world.stores.credentials.remove(world.tenant, world.key("pg-admin"), std::nullopt, {}).ok());
  ASSERT_TRUE(process->end_grace(world.tenant, key, world.record()).ok());
  EXPECT_EQ(world.settle("db").phase, RotationPhase::None);
}

TEST(CredentialRotation, AnotherOneThatIsWantedBeginsWhenThisOneHasEnded) {
  using Again = grants::CredentialRotations::Again;
  const auto refused = fail(ErrorCode::Conflict, "the new password is not taken");
  struct Stand {
    const char* name;
    int steps;             ///< of the first one before the wish
    bool fails;            ///< its test, once
    std::uint32_t latest;  ///< in the end
  };
  const Stand stands[] = {{"in its grace", 1, false, 3},
                          {"not told yet", 0, false, 2},
                          {"not told yet, and then refused", 0, true, 3}};
  for (const auto& stand : stands) {
    RotationWorld world;
    world.put("db", "app", "old");
    world.server.passwords["app"] = "old";
    const auto key = world.key("db");
    const auto process = world.process();
    ASSERT_TRUE(
        process->configure(world.tenant, key, world.settings({"app", "app_b"}), world.record())
            .ok());
    if (stand.fails) world.server.failures["test"] = {refused};
    ASSERT_TRUE(process->rotate(world.tenant, key, {}, world.record()).ok());
    for (int i = 0; i < stand.steps; ++i) ASSERT_TRUE(process->go_on(world.tenant, key).ok());
    const auto hurried = process->hurry(world.tenant, key, Again::Yes, world.record());
    ASSERT_TRUE(hurried.ok()) << stand.name;
    const auto now = world.settle("db");
    EXPECT_EQ(now.phase, RotationPhase::None) << stand.name;
    EXPECT_EQ(now.version, stand.latest) << stand.name << ": " << now.problem;
    EXPECT_FALSE(now.wanted) << stand.name;
    EXPECT_EQ(world.server.passwords.size(), 1U) << stand.name << ": no grace";
    expect_agreement(world, "db", stand.name);
  }
}

TEST(CredentialRotation, OfAValueThatPeopleGiveADateIsNoFailure) {
  RotationWorld world;
  world.put("db", "app", "old");
  const auto key = world.key("db");
  const auto process = world.process();
  vault::RotationSettings settings;
  settings.interval = 24h;
  ASSERT_TRUE(process->configure(world.tenant, key, settings, world.record()).ok());
  const auto moved =
      world.stores.credentials.describe(world.tenant, key, std::nullopt,
                                        [&](vault::CredentialDescription& is) -> Status {
                                          is.rotation_due_at = world.clock.now() + 1h;
                                          return {};
                                        },
                                        {});
  ASSERT_TRUE(moved.ok());
  world.clock.advance(48h);
  EXPECT_EQ(process->tick(), 0U);
  const auto now = must(process->find(world.tenant, key));
  EXPECT_EQ(now.failures, 0U);
  EXPECT_EQ(now.problem, "");
  const auto counts = must(world.rows.counts(world.clock.now()));
  EXPECT_EQ(counts.overdue, 1U);
  EXPECT_EQ(counts.failing, 0U);
}

TEST(CredentialRotation, AGivenValueFollowsALiveOneOnly) {
  RotationWorld world;
  world.put("db", "app", "old");
  const auto key = world.key("db");
  ASSERT_TRUE(world.stores.credentials
                  .change_versions(world.tenant, key, {},
                                   vault::CredentialStore::VersionChange::Delete, std::nullopt,
                                   world.clock.now(), {})
                  .ok());
  const auto given = world.log_in("app", "new");
  Order order;
  order.given = &given;
  EXPECT_EQ(code_of(world.process()->rotate(world.tenant, key, order, world.record())),
            ErrorCode::Conflict);
  EXPECT_EQ(rows_of_versions(world, "db"), 1U);
}

TEST(CredentialRotation, ThePublicHalfThatAReleaseOfBeforeWroteStays) {
  RotationWorld world;
  world.put("db", "app", "old");
  const auto key = world.key("db");
  using Effect = vault::CredentialRotationStore::Effect;
  const auto touch = [&] {
    return must(world.rows.change(world.tenant, key, "", [](vault::CredentialRotation&) {
      return Result<Effect>(Effect{});
    }));
  };
  touch();
  pqxx::connection connection(world.stores.superuser());
  pqxx::nontransaction tx(connection);
  // One half for what is handed out and for what is under way, which nothing is.
  EXPECT_EQ(tx.exec("UPDATE postern.credential_rotation SET public_half = 'ssh-ed25519 AAAA', "
                    "current_public_half = NULL, public_version = NULL WHERE phase = 'none'")
                .affected_rows(),
            1U);
  for (const auto& is : {must(world.rows.find(world.tenant, key)), touch(),
                         must(world.rows.find(world.tenant, key))}) {
    EXPECT_EQ(is.public_half, "ssh-ed25519 AAAA");
    EXPECT_EQ(is.public_version, 1U);
  }
}

TEST(CredentialRotation, TenantsTakeTurns) {
  RotationWorld world;
  const auto other = world.stores.add_tenant();
  const auto due = [&](const TenantId& tenant, const std::string& name) {
    const auto fields = world.log_in("app", "old");
    must(world.stores.credentials.put(tenant, world.key(name), std::nullopt,
                                      [&](std::uint32_t version) {
                                        return world.envelope.seal(tenant, world.key(name), version,
                                                                   fields, world.clock.now(),
                                                                   std::nullopt);
                                      },
                                      {}));
    using Effect = vault::CredentialRotationStore::Effect;
    must(world.rows.change(tenant, world.key(name), "",
                           [&](vault::CredentialRotation& is) -> Result<Effect> {
                             is.next_at = world.clock.now();
                             return Effect{};
                           }));
    world.clock.advance(1s);
  };
  for (int i = 0; i < 12; ++i) due(world.tenant, "many-" + std::to_string(i));
  due(other, "one");
  const auto found = must(world.rows.due(world.clock.now(), 3));
  ASSERT_EQ(found.size(), 3U);
  EXPECT_EQ(found[0].tenant, world.tenant) << "that longest due first";
  EXPECT_EQ(found[1].tenant, other) << "and not all of one tenant before the other's";
  EXPECT_EQ(must(world.rows.due(world.clock.now(), 30)).size(), 6U);
}

TEST(CredentialRotation, AServerThatIsAwayIsTriedAgainAndThenGivenUp) {
  RotationWorld world;
  world.put("db", "app", "old");
  world.server.passwords["app"] = "old";
  const auto key = world.key("db");
  const auto process = world.process();
  ASSERT_TRUE(process->configure(world.tenant, key, world.settings({"app"}), world.record()).ok());
  const auto away = fail(ErrorCode::Unavailable, "the server is away");
  world.server.failures["set"] = {away, away};
  ASSERT_TRUE(process->rotate(world.tenant, key, {}, world.record()).ok());
  auto now = must(process->go_on(world.tenant, key));
  EXPECT_EQ(now.phase, RotationPhase::Pending);
  EXPECT_EQ(now.attempts, 1U);
  EXPECT_EQ(now.problem, "the server is away");
  EXPECT_GT(now.next_at, world.clock.now());
  EXPECT_EQ(world.settle("db").phase, RotationPhase::Previous) << "it came back";
  ASSERT_TRUE(process->end_grace(world.tenant, key, world.record()).ok());
  EXPECT_EQ(world.settle("db").phase, RotationPhase::None);

  const auto before = world.value("db");
  world.server.failures["set"] = std::vector<Error>(100, away);
  ASSERT_TRUE(process->rotate(world.tenant, key, {}, world.record()).ok());
  now = world.settle("db");
  EXPECT_EQ(now.phase, RotationPhase::None);
  EXPECT_EQ(now.problem, "the server is away");
  EXPECT_EQ(world.value("db"), before);
  expect_agreement(world, "db", "given up");
}

TEST(CredentialRotation, AFailureOfWhatHasNoSettingsIsNoStandingProblem) {
  RotationWorld world;
  world.put("db", "app", "old");
  world.server.passwords["app"] = "old";
  const auto key = world.key("db");
  const auto process = world.process();
  const auto failing_after = [&](const Order& order) {
    world.server.failures["set"] =
        std::vector<Error>(100, fail(ErrorCode::Unavailable, "the server is away"));
    EXPECT_TRUE(process->rotate(world.tenant, key, order, world.record()).ok());
    EXPECT_EQ(world.settle("db").problem, "the server is away");
    return must(world.rows.counts(world.clock.now())).failing;
  };
  Order once;
  once.once = world.settings({"app"});
  EXPECT_EQ(failing_after(once), 0U) << "nothing is to be done about it any more";
  ASSERT_TRUE(process->configure(world.tenant, key, world.settings({"app"}), world.record()).ok());
  EXPECT_EQ(failing_after({}), 1U) << "it will be tried again, and fail again";
}

TEST(CredentialRotation, AValueThatCannotBeRetiredIsSaidSoUntilItIs) {
  RotationWorld world;
  world.put("db", "app", "old");
  world.server.passwords["app"] = "old";
  const auto key = world.key("db");
  const auto process = world.process();
  ASSERT_TRUE(
      process->configure(world.tenant, key, world.settings({"app", "app_b"}), world.record()).ok());
  world.server.failures["retire"] =
      std::vector<Error>(12, fail(ErrorCode::Conflict, "the server refused it"));
  ASSERT_TRUE(process->rotate(world.tenant, key, {}, world.record()).ok());
  ASSERT_TRUE(process->go_on(world.tenant, key).ok());
  ASSERT_TRUE(process->end_grace(world.tenant, key, world.record()).ok());
  for (int i = 0; i < 12; ++i) {
    const auto now = must(process->go_on(world.tenant, key));
    ASSERT_EQ(now.phase, RotationPhase::Previous);
    EXPECT_EQ(now.problem, "the server refused it");
    EXPECT_EQ(must(world.rows.counts(world.clock.now())).failing, 1U);
    EXPECT_EQ(states(world, "db"), "1 live, 2 live");
    world.clock.advance(1h);
  }
  EXPECT_EQ(must(process->go_on(world.tenant, key)).phase, RotationPhase::None);
  EXPECT_EQ(world.server.passwords.count("app"), 0U);
}

TEST(CredentialRotation, TwoReplicasAtOnceDoEachStepOnce) {
  RotationWorld world;
  const auto key = world.key("db");
  world.put("db", "app", "old");
  world.server.passwords["app"] = "old";
  ASSERT_TRUE(world.process()
                  ->configure(world.tenant, key, world.settings({"app", "app_b"}), world.record())
                  .ok());
  for (int round = 0; round < 10; ++round) {
    std::vector<std::thread> replicas;
    std::atomic<int> begun{0};
    for (int i = 0; i < 4; ++i) {
      replicas.emplace_back([&] {
        storage::PostgresCredentialRotations rows(world.stores.database, world.stores.log);
        grants::CredentialRotations process(rows, world.stores.credentials, world.envelope,
                                            world.clock, {&world.server, nullptr});
        if (process.rotate(world.tenant, key, {}, world.record()).ok()) ++begun;
        for (int j = 0; j < 5; ++j) static_cast<void>(process.go_on(world.tenant, key));
      });
    }
    for (auto& replica : replicas) replica.join();
    EXPECT_EQ(begun, 1);
    auto now = world.settle("db");
    EXPECT_EQ(now.phase, RotationPhase::Previous) << now.problem;
    expect_agreement(world, "db", "round " + std::to_string(round));
    ASSERT_TRUE(world.process()->end_grace(world.tenant, key, world.record()).ok());
    now = world.settle("db");
    EXPECT_EQ(now.phase, RotationPhase::None) << now.problem;
    EXPECT_EQ(now.version, static_cast<std::uint32_t>(round + 2)) << "no number was lost";
  }
  EXPECT_TRUE(must(world.stores.log.verify(world.tenant)).intact);
}

TEST(CredentialRotation, AScheduleBeginsItWhenItIsDueAndBacksOffWhenItFails) {
  RotationWorld world;
  world.put("db", "app", "old");
  world.server.passwords["app"] = "old";
  const auto key = world.key("db");
  const auto process = world.process();
  auto settings = world.settings({"app"});
  settings.interval = 24h;
  ASSERT_TRUE(process->configure(world.tenant, key, settings, world.record()).ok());
  EXPECT_EQ(process->tick(), 0U);
  world.clock.advance(24h);
  EXPECT_EQ(must(world.rows.counts(world.clock.now())).overdue, 1U);
  EXPECT_EQ(process->tick(), 1U);
  EXPECT_EQ(must(world.rows.find(world.tenant, key)).phase, RotationPhase::Previous);
  EXPECT_EQ(must(world.rows.counts(world.clock.now())).overdue, 0U);
  world.clock.advance(1h);
  EXPECT_EQ(process->tick(), 1U);
  EXPECT_EQ(must(world.rows.find(world.tenant, key)).phase, RotationPhase::None);

  // Now the server refuses: it is tried again, later and later.
  const auto refused = fail(ErrorCode::Conflict, "the new password is not taken");
  world.server.failures["test"] = std::vector<Error>(3, refused);
  world.clock.advance(23h);
  auto last = 0s;
  for (std::uint32_t i = 1; i <= 3; ++i) {
    EXPECT_EQ(process->tick(), 1U);
    const auto now = must(world.rows.find(world.tenant, key));
    EXPECT_EQ(now.failures, i);
    ASSERT_TRUE(now.next_at.has_value());
    EXPECT_GT(*now.next_at - world.clock.now(), last);
    last = *now.next_at - world.clock.now();
    EXPECT_EQ(process->tick(), 0U);
    world.clock.advance(last);
  }
  EXPECT_EQ(process->tick(), 1U);
  EXPECT_EQ(must(world.rows.find(world.tenant, key)).failures, 0U) << "it works again";

  // What was said about the schedule goes with it, and so does the date.
  ASSERT_TRUE(process->end_grace(world.tenant, key, world.record()).ok());
  EXPECT_EQ(world.settle("db").phase, RotationPhase::None);
  const auto off = must(process->configure(world.tenant, key, std::nullopt, world.record()));
  EXPECT_FALSE(off.description.rotation_due_at.has_value());
  EXPECT_FALSE(off.next_at.has_value());
  world.clock.advance(240h);
  EXPECT_EQ(process->tick(), 0U);
}

TEST(CredentialRotation, OfADisabledTenantEndsAndNoneBegins) {
  RotationWorld world;
  world.put("db", "app", "old");
  world.server.passwords["app"] = "old";
  const auto key = world.key("db");
  const auto process = world.process();
  const auto enable = [&](bool enabled) {
    policy::ConfigChange change;
    change.enabled = enabled;
    must(world.stores.config.apply(world.tenant, change, {}));
  };
  auto settings = world.settings({"app", "app_b"});
  settings.interval = 24h;
  ASSERT_TRUE(process->configure(world.tenant, key, settings, world.record()).ok());
  enable(false);
  world.clock.advance(24h);
  EXPECT_EQ(process->tick(), 0U);
  EXPECT_EQ(must(process->go_on(world.tenant, key)).phase, RotationPhase::None)
      << "nor for whoever looked before it was disabled";
  EXPECT_EQ(world.value("db"), "app:old");
  EXPECT_EQ(world.server.passwords.size(), 1U) << "nothing outside was changed";
  enable(true);
  EXPECT_EQ(process->tick(), 1U);
  EXPECT_EQ(must(world.rows.find(world.tenant, key)).phase, RotationPhase::Previous);

  // The value before is retired, and what is due by then waits, also for an emergency.
  using Again = grants::CredentialRotations::Again;
  enable(false);
  ASSERT_TRUE(process->hurry(world.tenant, key, Again::Yes, world.record()).ok());
  world.clock.advance(48h);
  EXPECT_EQ(process->tick(), 1U);
  auto is = must(world.rows.find(world.tenant, key));
  EXPECT_EQ(is.phase, RotationPhase::None);
  EXPECT_EQ(is.version, 2U);
  EXPECT_TRUE(is.wanted);
  EXPECT_EQ(world.server.passwords.size(), 1U);
  EXPECT_EQ(process->tick(), 0U);

  // What somebody orders goes on: an operator may.
  ASSERT_TRUE(process->rotate(world.tenant, key, {}, world.record()).ok());
  EXPECT_EQ(process->tick(), 1U);
  EXPECT_EQ(must(world.rows.find(world.tenant, key)).phase, RotationPhase::Previous);
  expect_agreement(world, "db", "ordered");
}

TEST(CredentialRotation, ADateThatSomebodySetsMovesTheSchedule) {
  RotationWorld world;
  world.put("db", "app", "old");
  const auto key = world.key("db");
  const auto process = world.process();
  vault::RotationSettings settings;
  settings.kind = RotationKind::Password;
  settings.field = "password";
  settings.interval = 24h;
  ASSERT_TRUE(process->configure(world.tenant, key, settings, world.record()).ok());
  const auto describe = [&](std::optional<sys_seconds> due) {
    return world.stores.credentials
        .describe(world.tenant, key, std::nullopt,
                  [&](vault::CredentialDescription& is) -> Status {
                    is.rotation_due_at = due;
                    return {};
                  },
                  {})
        .ok();
  };
  ASSERT_TRUE(describe(world.clock.now()));
  EXPECT_EQ(process->tick(), 1U);
  EXPECT_NE(world.value("db"), "app:old");
  const auto rotated = world.value("db");
  ASSERT_TRUE(describe(std::nullopt));
  world.clock.advance(240h);
  EXPECT_EQ(process->tick(), 0U);
  EXPECT_EQ(world.value("db"), rotated);
}

// ---- keys that are announced ----

/// Of a key in the field `password`, which is two days announced.
vault::RotationSettings announced() {
  vault::RotationSettings settings;
  settings.kind = RotationKind::SshKey;
  settings.field = "password";
  settings.announce = 48h;
  settings.grace = 1h;
  return settings;
}
/// Says so of `db`, and rotates it: its new key is announced now.
vault::CredentialRotation announce(RotationWorld& world, grants::CredentialRotations& process,
                                   const vault::RotationSettings& settings = announced()) {
  world.put("db", "app", "old");
  must(process.configure(world.tenant, world.key("db"), settings, world.record()));
  return must(process.rotate(world.tenant, world.key("db"), {}, world.record()));
}

TEST(CredentialRotation, AnAnnouncedKeyIsHandedOutWhenItsTimeHasCome) {
  RotationWorld world;
  const auto process = world.process();
  const auto begun = announce(world, *process);
  EXPECT_TRUE(is_announced(begun));
  EXPECT_EQ(begun.next_at, world.clock.now() + 48h);
  EXPECT_THAT(begun.running.public_half, testing::StartsWith("ssh-ed25519 "));
  EXPECT_EQ(begun.public_half, "") << "that of what is handed out";
  world.clock.advance(48h - 1s);
  EXPECT_EQ(process->tick(), 0U);
  EXPECT_EQ(world.value("db"), "app:old");
  EXPECT_EQ(states(world, "db"), "1 live");

  world.clock.advance(1s);
  EXPECT_EQ(process->tick(), 1U);
  const auto handed_out = must(world.rows.find(world.tenant, world.key("db")));
  EXPECT_EQ(handed_out.phase, RotationPhase::Previous);
  EXPECT_EQ(handed_out.public_half, begun.running.public_half);
  EXPECT_THAT(world.value("db"), HasSubstr("PRIVATE KEY"));
  world.clock.advance(1h);
  EXPECT_EQ(world.settle("db").phase, RotationPhase::None);
  EXPECT_EQ(states(world, "db"), "1 destroyed, 2 live");
}

TEST(CredentialRotation, KilledAnywhereAnAnnouncementIsNotCutShort) {
  for (const bool before : {true, false}) {
    int died = 0;
    for (bool ended = false; !ended;) {
      RotationWorld world;
      world.put("db", "app", "old");
      const auto key = world.key("db");
      ASSERT_TRUE(world.process()->configure(world.tenant, key, announced(), world.record()).ok());
      world.fate = {died + 1, before, 0};
      const auto began_at = world.clock.now();
      try {
        static_cast<void>(world.process()->rotate(world.tenant, key, {}, world.record()));
        ended = true;
      } catch (const Died&) {
        ++died;
      }
      world.fate = {};
      const auto now = world.settle("db");
      EXPECT_EQ(world.value("db"), "app:old") << died;
      if (now.phase == RotationPhase::None) continue;  // killed before anything was written
      ASSERT_TRUE(is_announced(now)) << died;
      EXPECT_GE(*now.next_at, began_at + 48h) << died;
      world.clock.advance(49h);
      world.settle("db");
      EXPECT_NE(world.value("db"), "app:old") << died;
    }
    EXPECT_GE(died, 3) << "this is the test's purpose";
  }
}

TEST(CredentialRotation, AnAnnouncementBeginsSoThatTheKeyIsHandedOutWhenItIsDue) {
  RotationWorld world;
  const auto key = world.key("db");
  const auto process = world.process();
  world.put("db", "app", "old");
  auto settings = announced();
  settings.interval = 240h;
  const auto due = world.clock.now() + 240h;
  const auto set = must(process->configure(world.tenant, key, settings, world.record()));
  EXPECT_EQ(set.description.rotation_due_at, due);
  EXPECT_EQ(set.next_at, due - 48h);
  world.clock.advance(192h);
  EXPECT_EQ(process->tick(), 1U);
  auto now = must(world.rows.find(world.tenant, key));
  EXPECT_TRUE(is_announced(now));
  EXPECT_EQ(now.next_at, due);
  world.clock.advance(48h);
  EXPECT_EQ(process->tick(), 1U);
  now = world.settle("db");
  EXPECT_EQ(now.rotated_at, due);
  world.clock.advance(1h);
  now = world.settle("db");
  EXPECT_EQ(now.next_at, due + 240h - 48h);

  // So it is of a date that somebody sets.
  const auto sooner = world.clock.now() + 72h;
  must(world.stores.credentials.describe(world.tenant, key, std::nullopt,
                                         [&](vault::CredentialDescription& is) -> Status {
                                           is.rotation_due_at = sooner;
                                           return {};
                                         },
                                         {}));
  EXPECT_EQ(must(world.rows.find(world.tenant, key)).next_at, sooner - 48h);
}

TEST(CredentialRotation, AnAnnouncementEndsEarlyWhenSomebodySaysSo) {
  using Again = grants::CredentialRotations::Again;
  RotationWorld world;
  const auto key = world.key("db");
  const auto process = world.process();
  announce(world, *process);
  EXPECT_EQ(must(process->promote_now(world.tenant, key, world.record())).phase,
            RotationPhase::Previous);
  const auto second = world.value("db");
  EXPECT_THAT(second, HasSubstr("PRIVATE KEY"));
  EXPECT_EQ(code_of(process->promote_now(world.tenant, key, world.record())), ErrorCode::Conflict);
  must(process->end_grace(world.tenant, key, world.record()));
  EXPECT_EQ(code_of(process->promote_now(world.tenant, key, world.record())), ErrorCode::Conflict);

  // Given up, it leaves nothing.
  must(process->rotate(world.tenant, key, {}, world.record()));
  EXPECT_EQ(must(process->cancel(world.tenant, key, world.record())).phase, RotationPhase::None);
  EXPECT_EQ(world.value("db"), second);
  EXPECT_EQ(rows_of_versions(world, "db"), 2U);

  // In an emergency nobody waits: not for one that is announced, nor for the one after.
  must(process->rotate(world.tenant, key, {}, world.record()));
  const auto hurried = must(process->hurry(world.tenant, key, Again::Yes, world.record()));
  EXPECT_EQ(hurried.phase, RotationPhase::None);
  EXPECT_NE(world.value("db"), second);
  must(process->configure(world.tenant, key, world.settings({"app"}), world.record()));
  world.server.refuses.emplace("test", fail(ErrorCode::Conflict, "not taken"));
  must(process->rotate(world.tenant, key, {}, world.record()));
  must(process->configure(world.tenant, key, announced(), world.record()));
  must(process->hurry(world.tenant, key, Again::Yes, world.record()));
  const auto before = world.value("db");
  EXPECT_EQ(world.settle("db").phase, RotationPhase::None);
  EXPECT_NE(world.value("db"), before) << "rolled back, and rotated again";
}

TEST(CredentialRotation, AnAnnouncedKeyGivesWayToWhatIsDoneToTheValueBefore) {
  for (const bool stored : {true, false}) {
    RotationWorld world;
    const auto key = world.key("db");
    const auto process = world.process();
    announce(world, *process);
    if (stored) {
      world.put("db", "app", "by-hand");
    } else {
      must(world.stores.credentials.change_versions(world.tenant, key, {},
                                                    vault::CredentialStore::VersionChange::Delete,
                                                    std::nullopt, world.clock.now(), {}));
    }
    EXPECT_EQ(process->tick(), 1U) << "at once, not when it was to be handed out";
    const auto now = must(world.rows.find(world.tenant, key));
    EXPECT_EQ(now.phase, RotationPhase::None);
    EXPECT_EQ(now.failures, 1U);
    EXPECT_EQ(world.value("db"), stored ? "app:by-hand" : "NotFound");
  }
}

TEST(CredentialRotation, AnAnnouncementGoesOnWhenWhatWasDeletedIsBack) {
  using Change = vault::CredentialStore::VersionChange;
  RotationWorld world;
  const auto key = world.key("db");
  const auto process = world.process();
  const auto until = announce(world, *process).next_at;
  world.clock.advance(1h);
  for (const auto change : {Change::Delete, Change::Undelete}) {
    const std::uint32_t one = 1;
    must(world.stores.credentials.change_versions(world.tenant, key, {&one, 1}, change,
                                                  std::nullopt, world.clock.now(), {}));
  }
  EXPECT_EQ(process->tick(), 1U);
  auto now = must(world.rows.find(world.tenant, key));
  EXPECT_TRUE(is_announced(now));
  EXPECT_EQ(now.next_at, until);
  EXPECT_EQ(world.value("db"), "app:old") << "no server has the new half yet";
  EXPECT_EQ(process->tick(), 0U);
  world.clock.advance(47h);
  EXPECT_EQ(process->tick(), 1U);
  EXPECT_THAT(world.value("db"), HasSubstr("PRIVATE KEY"));
}

TEST(CredentialRotation, WhatAnotherValueHasPassedByIsNotPromoted) {
  RotationWorld world;
  const auto key = world.key("db");
  const auto process = world.process();
  announce(world, *process);
  world.put("db", "app", "by-hand");
  const auto refused = process->promote_now(world.tenant, key, world.record());
  ASSERT_EQ(code_of(refused), ErrorCode::Conflict);
  EXPECT_EQ(refused.error().detail, "another value was stored meanwhile");
  EXPECT_EQ(world.value("db"), "app:by-hand");
}

TEST(CredentialRotation, AGivenKeyIsNotAnnounced) {
  RotationWorld world;
  const auto key = world.key("db");
  const auto process = world.process();
  world.put("db", "app", "old");
  must(process->configure(world.tenant, key, announced(), world.record()));
  const auto given = world.log_in("app", "given");
  Order order;
  order.given = &given;
  EXPECT_EQ(must(process->rotate(world.tenant, key, order, world.record())).phase,
            RotationPhase::Previous);
  EXPECT_EQ(world.value("db"), "app:given");
}

TEST(CredentialRotation, OneThatCannotBeginHoldsUpNobody) {
  RotationWorld world;
  auto settings = world.settings({"app"});
  settings.interval = 24h;
  const auto process = world.process();
  for (const char* name : {"broken", "db"}) {
    world.put(name, "app", "old");
    ASSERT_TRUE(process->configure(world.tenant, world.key(name), settings, world.record()).ok());
  }
  world.server.passwords["app"] = "old";
  // A value that has no user any more.
  vault::Fields fields;
  fields.emplace("token", FieldValue(SecureBuffer::copy_of(std::string_view("x"))));
  must(world.stores.credentials.put(world.tenant, world.key("broken"), std::nullopt,
                                    [&](std::uint32_t version) {
                                      return world.envelope.seal(world.tenant, world.key("broken"),
                                                                 version, fields, world.clock.now(),
                                                                 std::nullopt);
                                    },
                                    {}));
  world.clock.advance(24h);
  EXPECT_EQ(process->tick(), 2U);
  const auto broken = must(world.rows.find(world.tenant, world.key("broken")));
  EXPECT_EQ(broken.phase, RotationPhase::None);
  EXPECT_EQ(broken.failures, 1U);
  EXPECT_THAT(broken.problem, HasSubstr("username"));
  EXPECT_EQ(must(world.rows.find(world.tenant, world.key("db"))).phase, RotationPhase::Previous);
  EXPECT_EQ(process->tick(), 0U);
}

TEST(CredentialRotation, IsRefusedWhileOneIsUnderWayOrNothingSaysHow) {
  RotationWorld world;
  world.put("db", "app", "old");
  const auto key = world.key("db");
  const auto process = world.process();
  EXPECT_EQ(code_of(process->rotate(world.tenant, key, {}, world.record())), ErrorCode::Conflict);
  EXPECT_EQ(code_of(process->rotate(world.tenant, world.key("none"), {}, world.record())),
            ErrorCode::NotFound);
  EXPECT_EQ(code_of(process->cancel(world.tenant, key, world.record())), ErrorCode::Conflict);
  EXPECT_EQ(code_of(process->end_grace(world.tenant, key, world.record())), ErrorCode::Conflict);
  ASSERT_TRUE(process->configure(world.tenant, key, world.settings({"app"}), world.record()).ok());
  Order stale;
  stale.expected = vault::Expected(7);
  EXPECT_EQ(code_of(process->rotate(world.tenant, key, stale, world.record())),
            ErrorCode::PreconditionFailed);
  ASSERT_TRUE(process->rotate(world.tenant, key, {}, world.record()).ok());
  EXPECT_EQ(code_of(process->rotate(world.tenant, key, {}, world.record())), ErrorCode::Conflict);
  EXPECT_EQ(world.value("db"), "app:old");
}

TEST(CredentialRotation, ByHandTakesTheGivenValueAndHasAGrace) {
  RotationWorld world;
  world.put("db", "app", "old");
  const auto key = world.key("db");
  const auto process = world.process();
  const auto given = world.log_in("app", "new");
  Order order;
  order.given = &given;
  order.grace = 1h;
  const auto done = process->rotate(world.tenant, key, order, world.record());
  ASSERT_TRUE(done.ok()) << done.error().detail;
  EXPECT_EQ(done.value().phase, RotationPhase::Previous);
  EXPECT_EQ(world.value("db"), "app:new");
  EXPECT_EQ(states(world, "db"), "1 live, 2 live");
  world.clock.advance(1h);
  EXPECT_EQ(process->tick(), 1U);
  EXPECT_EQ(states(world, "db"), "1 destroyed, 2 live");
}

std::optional<sys_seconds> expiry(RotationWorld& world, const std::string& name) {
  return must(world.stores.credentials.latest(world.tenant, world.key(name))).expires_at;
}

TEST(CredentialRotation, KeepsWhenTheValueExpires) {
  RotationWorld world;
  const auto key = world.key("db");
  const auto ends = world.clock.now() + 72h;
  world.put("db", "app", "old", ends);
  world.server.passwords["app"] = "old";
  const auto process = world.process();
  auto settings = world.settings({"app"});
  settings.interval = 24h;
  ASSERT_TRUE(process->configure(world.tenant, key, settings, world.record()).ok());
  world.clock.advance(24h);
  EXPECT_EQ(process->tick(), 1U);
  EXPECT_EQ(must(world.rows.find(world.tenant, key)).version, 2U);
  EXPECT_EQ(expiry(world, "db"), ends) << "by schedule";
  EXPECT_EQ(must(world.rows.find(world.tenant, key)).expires_at, ends);
  ASSERT_TRUE(process->end_grace(world.tenant, key, world.record()).ok());
  world.settle("db");
  Order once;
  once.once.emplace();
  once.once->kind = RotationKind::Password;
  once.once->field = "password";
  ASSERT_TRUE(process->rotate(world.tenant, key, once, world.record()).ok());
  EXPECT_EQ(expiry(world, "db"), ends) << "made for this once";
  // What is given may say another time.
  const auto given = world.log_in("app", "new");
  Order order;
  order.given = &given;
  for (const auto& said : {std::optional<sys_seconds>(), std::optional(ends + 24h)}) {
    static_cast<void>(process->end_grace(world.tenant, key, world.record()));
    world.settle("db");
    order.expires_at = said;
    ASSERT_TRUE(process->rotate(world.tenant, key, order, world.record()).ok());
    EXPECT_EQ(expiry(world, "db"), said.value_or(ends)) << "given";
  }
}

TEST(CredentialRotation, RevivesNothingThatHasExpired) {
  RotationWorld world;
  const auto key = world.key("db");
  world.put("db", "app", "old", world.clock.now() + 24h);
  world.server.passwords["app"] = "old";
  const auto process = world.process();
  auto settings = world.settings({"app"});
  settings.interval = 24h;
  ASSERT_TRUE(process->configure(world.tenant, key, settings, world.record()).ok());
  world.clock.advance(24h);
  EXPECT_EQ(process->tick(), 1U) << "it is due";
  const auto is = must(world.rows.find(world.tenant, key));
  EXPECT_EQ(is.phase, RotationPhase::None);
  EXPECT_EQ(is.version, 1U);
  EXPECT_THAT(is.problem, HasSubstr("the value has expired"));
  const auto said = [&] { return must(world.stores.log.verify(world.tenant)).records; };
  const auto once_said = said();
  for (int i = 0; i < 3; ++i) {
    world.clock.advance(6h);
    EXPECT_EQ(process->tick(), 1U);
  }
  EXPECT_EQ(said(), once_said) << "it stays so until there is another value";
  EXPECT_EQ(code_of(process->may_rotate(is)), ErrorCode::Conflict) << "nor in bulk";
  const auto reported = must(process->report(world.tenant, {}, "", 10));
  for (const auto& each : reported.items) {
    EXPECT_EQ(process->may_begin(world.tenant, each.rotation).ok(), false);
  }
  Order once;
  once.once.emplace();
  once.once->kind = RotationKind::Password;
  once.once->field = "password";
  for (const auto& order : {Order(), once}) {
    EXPECT_EQ(code_of(process->rotate(world.tenant, key, order, world.record())),
              ErrorCode::Conflict);
  }
  EXPECT_EQ(world.server.passwords["app"], "old");
  // By hand it is replaced, with a time.
  const auto given = world.log_in("app", "new");
  Order order;
  order.given = &given;
  EXPECT_EQ(code_of(process->rotate(world.tenant, key, order, world.record())),
            ErrorCode::MalformedRequest);
  EXPECT_EQ(world.value("db"), "app:old");
  order.expires_at = world.clock.now() + 48h;
  ASSERT_TRUE(process->rotate(world.tenant, key, order, world.record()).ok());
  EXPECT_EQ(world.value("db"), "app:new");
  EXPECT_TRUE(process
                  ->may_rotate([&] {
                    auto now = must(world.rows.find(world.tenant, key));
                    now.phase = RotationPhase::None;
                    return now;
                  }())
                  .ok());
}

TEST(CredentialRotation, GoesWithItsCredential) {
  RotationWorld world;
  world.put("db", "app", "old");
  world.server.passwords["app"] = "old";
  const auto key = world.key("db");
  const auto process = world.process();
  auto settings = world.settings({"app", "app_b"});
  settings.interval = 24h;
  ASSERT_TRUE(process->configure(world.tenant, key, settings, world.record()).ok());
  ASSERT_TRUE(process->rotate(world.tenant, key, {}, world.record()).ok());
  ASSERT_TRUE(world.stores.credentials.remove(world.tenant, key, std::nullopt, {}).ok());
  EXPECT_EQ(code_of(process->go_on(world.tenant, key)), ErrorCode::Conflict);
  world.clock.advance(240h);
  EXPECT_EQ(process->tick(), 0U);
  EXPECT_EQ(rows_of_versions(world, "db"), 0U);
  // One of the same name begins anew, and no number comes twice.
  EXPECT_EQ(world.put("db", "app", "new"), 3U);
  const auto now = must(process->find(world.tenant, key));
  EXPECT_FALSE(now.settings.has_value());
  EXPECT_EQ(now.phase, RotationPhase::None);
}

TEST(CredentialRotation, ADisabledCredentialIsNotBroughtBackByIt) {
  RotationWorld world;
  world.put("db", "app", "old");
  world.server.passwords["app"] = "old";
  const auto key = world.key("db");
  const auto process = world.process();
  ASSERT_TRUE(
      process->configure(world.tenant, key, world.settings({"app", "app_b"}), world.record()).ok());
  ASSERT_TRUE(process->rotate(world.tenant, key, {}, world.record()).ok());
  ASSERT_TRUE(world.stores.credentials
                  .change_versions(world.tenant, key, {},
                                   vault::CredentialStore::VersionChange::Delete, std::nullopt,
                                   world.clock.now(), {})
                  .ok());
  EXPECT_EQ(world.settle("db").phase, RotationPhase::None);
  EXPECT_EQ(world.value("db"), "NotFound");
  EXPECT_EQ(code_of(process->rotate(world.tenant, key, {}, world.record())), ErrorCode::Conflict);
}

TEST(CredentialRotation, IsKeptApartByTenantAndOwner) {
  RotationWorld world;
  world.put("db", "app", "old");
  const auto key = world.key("db");
  const auto other = world.stores.add_tenant();
  const vault::CredentialKey alices{Owner::principal({"https://idp.example", "alice"}),
                                    CredentialName("db")};
  const auto process = world.process();
  ASSERT_TRUE(process->configure(world.tenant, key, world.settings({"app"}), world.record()).ok());
  ASSERT_TRUE(process->rotate(world.tenant, key, {}, world.record()).ok());
  for (const auto& [tenant, which] : {std::pair(other, key), std::pair(world.tenant, alices)}) {
    EXPECT_EQ(code_of(world.rows.find(tenant, which)), ErrorCode::NotFound);
    EXPECT_EQ(code_of(world.rows.version(tenant, which, 1)), ErrorCode::NotFound);
    EXPECT_EQ(code_of(world.rows.version(tenant, which, 2)), ErrorCode::NotFound);
    EXPECT_EQ(code_of(world.rows.take(tenant, which, {"lease", world.clock.now()},
                                      world.clock.now() + 1h)),
              ErrorCode::Conflict);
    EXPECT_EQ(code_of(world.rows.change(
                  tenant, which, "",
                  [](vault::CredentialRotation&) -> Result<vault::CredentialRotationStore::Effect> {
                    return vault::CredentialRotationStore::Effect{};
                  })),
              ErrorCode::NotFound);
    EXPECT_TRUE(must(world.rows.of(tenant, {&which, 1})).empty());
    EXPECT_TRUE(world.rows.give_back(tenant, which, "lease").ok());
  }
  EXPECT_EQ(must(world.rows.find(world.tenant, key)).phase, RotationPhase::Pending);
}

TEST(CredentialRotation, GoesWithItsOwnerWhoIsErased) {
  RotationWorld world;
  const Principal alice{"https://idp.example", "alice"};
  const auto of_alice = [&](const char* name) {
    return vault::CredentialKey{Owner::principal(alice), CredentialName(name)};
  };
  const auto put = [&](const char* name, const char* user) {
    const auto fields = world.log_in(user, "old");
    return world.stores.credentials.put(world.tenant, of_alice(name), std::nullopt,
                                        [&](std::uint32_t version) {
                                          return world.envelope.seal(
                                              world.tenant, of_alice(name), version, fields,
                                              world.clock.now(), std::nullopt);
                                        },
                                        {});
  };
  for (const char* name : {"pg-admin", "db", "other"}) ASSERT_TRUE(put(name, "app").ok());
  const auto process = world.process();
  for (const char* name : {"db", "other"}) {
    ASSERT_TRUE(process
                    ->configure(world.tenant, of_alice(name), world.settings({"app", "app_b"}),
                                world.record())
                    .ok());
  }
  ASSERT_TRUE(process->rotate(world.tenant, of_alice("db"), {}, world.record()).ok());
  storage::PostgresErasureStore erasures(world.stores.database, world.stores.log);
  ASSERT_TRUE(
      erasures.begin(world.tenant, alice, "e1", world.clock.now(), world.record("erase")).ok());
  EXPECT_EQ(code_of(process->rotate(world.tenant, of_alice("other"), {}, world.record())),
            ErrorCode::Conflict)
      << "nothing is sealed for somebody who is being erased";
  ASSERT_TRUE(erasures.remove_rows(world.tenant, "e1", world.clock.now()).ok());
  EXPECT_EQ(code_of(process->find(world.tenant, of_alice("db"))), ErrorCode::NotFound);
  EXPECT_FALSE(process->go_on(world.tenant, of_alice("db")).ok());
  world.clock.advance(240h);
  EXPECT_EQ(process->tick(), 0U);
  EXPECT_EQ(rows_of_versions(world, "db"), 0U);
}

TEST(CredentialRotation, AKekThatIsRotatedMeanwhileTakesTheNewValueAlong) {
  RotationWorld world;
  world.put("db", "app", "old");
  world.server.passwords["app"] = "old";
  const auto key = world.key("db");
  const auto process = world.process();
  ASSERT_TRUE(process->configure(world.tenant, key, world.settings({"app"}), world.record()).ok());
  ASSERT_TRUE(process->rotate(world.tenant, key, {}, world.record()).ok());
  storage::PostgresRotationStore keys(world.stores.database, world.stores.log);
  vault::Rotation rotation(keys, world.stores.keyring, world.clock, {});
  ASSERT_TRUE(rotation.rotate_tenant(world.tenant).ok());
  ASSERT_TRUE(rotation.rewrap(world.tenant, [](const auto&) {}).ok());
  pqxx::connection connection(world.stores.superuser());
  pqxx::work tx(connection);
  EXPECT_EQ(tx.exec("SELECT count(*) FROM postern.credential_version WHERE kek_version = 1")[0][0]
                .as<int>(),
            0);
  EXPECT_EQ(world.settle("db").phase, RotationPhase::Previous);
  expect_agreement(world, "db", "under the new KEK");
}

}  // namespace
}  // namespace postern::test
