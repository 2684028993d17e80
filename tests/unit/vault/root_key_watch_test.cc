#include "vault/root_key_watch.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/code_of.h"
#include "support/in_memory_kek_store.h"
#include "support/temporary_directory.h"

namespace postern::vault {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using test::code_of;

/// Says what it is told about the database; changes nothing.
class SaidUses final : public RotationStore {
 public:
  Result<std::vector<RootKeyUse>> root_key_uses() override {
    ++readings;
    if (throws) throw std::runtime_error("text with a secret");
    if (down) return fail(ErrorCode::Unavailable, "down");
    return uses;
  }
  Result<Backlog> backlog() override { return Backlog{1, 2, 3}; }
  Result<std::vector<KekPlace>> keks_not_under(const std::string&, const std::optional<KekPlace>&,
                                               std::uint32_t) override {
    throw std::logic_error("not asked");
  }
  Result<std::vector<KekUse>> kek_uses(const TenantId&) override {
    throw std::logic_error("not asked");
  }
  Result<std::vector<HeldTenant>> held_tenants() override { return held; }
  Result<NewestKek> newest_kek(const TenantId&) override { throw std::logic_error("not asked"); }
  Result<Backlog> backlog_of(const TenantId&) override { throw std::logic_error("not asked"); }
  Status rewrap_kek(const TenantId&, KekVersion, const ChangeKek&) override {
    throw std::logic_error("not asked");
  }
  Result<KekVersion> add_kek(const TenantId&, const MakeKek&) override {
    throw std::logic_error("not asked");
  }
  Result<std::uint64_t> seal(const TenantId&, const audit::Event&) override {
    throw std::logic_error("not asked");
  }
  Result<Batch> rewrap_rows(const TenantId&, Position&, std::uint32_t, Rewrapper&) override {
    throw std::logic_error("not asked");
  }

  Result<std::vector<Principal>> without_share(const TenantId&, std::uint32_t) override {
    throw std::logic_error("not asked");
  }
  Status note_emptied(const TenantId&) override { throw std::logic_error("not asked"); }

  std::vector<RootKeyUse> uses;
  std::vector<HeldTenant> held;
  bool down = false, throws = false;
  int readings = 0;
};

struct Watched : ::testing::Test {
  Watched() { make("a"), make("b"); }

  void make(const std::string& name) const {
    EXPECT_TRUE(RootKeys::create(directory.path() / name).ok());
  }
  std::string line(const std::string& name) const {
    std::ifstream in(directory.path() / name);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::string id(const std::string& name) const { return line(name).substr(20, 16); }
  /// As configuration management does: a new file in place of the old.
  void put(const std::string& text) const {
    const auto fresh = directory.path() / "fresh";
    std::ofstream(fresh) << text;
    ::chmod(fresh.c_str(), 0600);
    fs::rename(fresh, file);
  }
  std::unique_ptr<RootKeyWatch> watch() {
    return std::make_unique<RootKeyWatch>(std::make_unique<RootKeyFile>(file), keyring, store,
                                          RootKeyWatch::Options{1ms, 0ms, 0ms});
  }
  RootKeyState state(RootKeyWatch& of) {
    of.check();
    return of.facts().state;
  }
  bool may_create() { return keyring.may_create().ok(); }

  const test::TemporaryDirectory directory;
  const fs::path file = directory.path() / "root.key";
  test::InMemoryKekStore keks;
  Keyring keyring{RootKeys::none(), keks};
  SaidUses store;
};

using Ids = std::vector<std::string>;

TEST_F(Watched, AnEmptyDatabaseTakesAnyRootKey) {
  put(line("a"));
  const auto watched = watch();
  EXPECT_FALSE(may_create());  // nothing is known yet
  EXPECT_EQ(state(*watched), RootKeyState::Ok);
  EXPECT_TRUE(may_create());
  EXPECT_EQ(watched->facts().given, Ids{id("a")});
  EXPECT_EQ(keyring.active_root_key(), id("a"));
}

TEST_F(Watched, AMissingFileIsMissingUntilItIsThere) {
  store.uses = {{id("a"), 3, 2, 0}};
  const auto watched = watch();
  EXPECT_EQ(state(*watched), RootKeyState::Missing);
  EXPECT_EQ(watched->facts().wanted, Ids{id("a")});
  EXPECT_NE(watched->facts().problem, "");
  EXPECT_FALSE(may_create());
  put("no key\n");
  EXPECT_EQ(state(*watched), RootKeyState::Missing);
  put(line("a"));
  EXPECT_EQ(state(*watched), RootKeyState::Ok);
  EXPECT_EQ(watched->facts().problem, "");
  EXPECT_TRUE(watched->facts().wanted.empty());
  EXPECT_TRUE(may_create());
}

TEST_F(Watched, TenantsAreCountedThatAreHeldAndThoseThatAreSealedHere) {
  const auto share = [](char of) { return HeldShare(SecureBuffer::copy_of(std::string(32, of))); };
  const TenantId free("free"), held("held"), lost("lost");
  keyring.replace_root_keys(RootKeys::parse(line("a")).value());
  keks.add(free, keyring.create(free, KekVersion{1}));
  for (const auto& tenant : {held, lost}) {
    keks.add(tenant, keyring.create(tenant, KekVersion{1},
                                    HeldShareDemand{check_of(tenant, share('s')), 0}));
  }
  store.held = {{free, false}, {held, true}, {lost, true}};
  put(line("a"));
  const auto watched = watch();
  watched->check();
  EXPECT_EQ(watched->facts().held, 2u);
  EXPECT_EQ(watched->facts().sealed, 2u);
  EXPECT_EQ(keks.loads(), 0u) << "to be counted none is opened";
  ASSERT_TRUE(keyring.unseal(held, share('s')).ok());
  const auto loads = keks.loads();
  watched->check();
  EXPECT_EQ(watched->facts().held, 2u);
  EXPECT_EQ(watched->facts().sealed, 1u);
  put(line("b") + line("a"));
  watched->check();
  EXPECT_EQ(watched->facts().sealed, 1u);
  EXPECT_EQ(keks.loads(), loads) << "nor when the root keys are others";
  keyring.seal(held);
  watched->check();
  EXPECT_EQ(watched->facts().sealed, 2u);
}

TEST_F(Watched, AnotherKeyIsWrongAndNothingIsMadeUnderIt) {
  store.uses = {{id("a"), 3, 2, 0}};
  put(line("b"));
  const auto watched = watch();
  EXPECT_EQ(state(*watched), RootKeyState::Wrong);
  EXPECT_EQ(watched->facts().given, Ids{id("b")});
  EXPECT_EQ(watched->facts().wanted, Ids{id("a")});
  EXPECT_FALSE(may_create());
  put(line("b") + line("a"));
  EXPECT_EQ(state(*watched), RootKeyState::Ok);
  EXPECT_EQ(keyring.active_root_key(), id("b"));
}

TEST_F(Watched, SomeOfTheKeysAreIncomplete) {
  store.uses = {{id("a"), 3, 2, 0}, {id("b"), 1, 1, 0}};
  put(line("b"));
  const auto watched = watch();
  EXPECT_EQ(state(*watched), RootKeyState::Incomplete);
  EXPECT_FALSE(may_create());
  store.uses = {{id("b"), 4, 2, 0}};  // the rotation elsewhere has ended
  EXPECT_EQ(state(*watched), RootKeyState::Ok);
}

TEST_F(Watched, AFileThatIsSpoiltLaterCostsNothingThatWorked) {
  store.uses = {{id("a"), 3, 2, 0}};
  put(line("a"));
  const auto watched = watch();
  ASSERT_EQ(state(*watched), RootKeyState::Ok);
  for (const auto& spoil : std::vector<std::string>{"", "half a li", line("a") + line("a")}) {
    put(spoil);
    EXPECT_EQ(state(*watched), RootKeyState::Ok) << spoil.size();
    EXPECT_NE(watched->facts().problem, "");
  }
  fs::remove(file);
  EXPECT_EQ(state(*watched), RootKeyState::Ok);
  EXPECT_EQ(keyring.active_root_key(), id("a"));
  put(line("b") + line("a"));
  EXPECT_EQ(state(*watched), RootKeyState::Ok);
  EXPECT_EQ(keyring.active_root_key(), id("b"));
}

TEST_F(Watched, AKeyThatIsTakenOutIsGone) {
  store.uses = {{id("a"), 3, 2, 0}};
  put(line("b") + line("a"));
  const auto watched = watch();
  ASSERT_EQ(state(*watched), RootKeyState::Ok);
  put(line("b"));
  EXPECT_EQ(state(*watched), RootKeyState::Wrong);
}

TEST_F(Watched, WithoutTheDatabaseItKnowsNothingAndThenKeepsWhatItKnew) {
  store.down = true;
  put(line("a"));
  const auto watched = watch();
  EXPECT_EQ(state(*watched), RootKeyState::Unknown);
  EXPECT_FALSE(may_create());
  store.down = false;
  EXPECT_EQ(state(*watched), RootKeyState::Ok);
  store.down = true;
  EXPECT_EQ(state(*watched), RootKeyState::Ok);
  store.down = false;
  store.throws = true;
  EXPECT_EQ(state(*watched), RootKeyState::Ok);
}

TEST_F(Watched, WhatARowSaysIsShownAsAnIdOrNotAtAll) {
  store.uses = {{"x\" forged=1", 1, 1, 0}};
  put(line("a"));
  const auto watched = watch();
  EXPECT_EQ(state(*watched), RootKeyState::Wrong);
  EXPECT_EQ(root_key_ids(watched->facts().wanted), "malformed");
}

TEST_F(Watched, OnItsOwnThreadItNoticesAFilePutRight) {
  store.uses = {{id("a"), 1, 1, 0}};
  const auto watched = watch();
  watched->check();
  ASSERT_EQ(watched->facts().state, RootKeyState::Missing);
  watched->start();
  put(line("a"));
  const auto until = std::chrono::steady_clock::now() + 20s;
  while (watched->facts().state != RootKeyState::Ok && std::chrono::steady_clock::now() < until) {
    std::this_thread::yield();
  }
  EXPECT_EQ(watched->facts().state, RootKeyState::Ok);
  watched->reload();
  watched->stop();
  EXPECT_EQ(watched->facts().backlog->rows(), 5u);
}

}  // namespace
}  // namespace postern::vault
