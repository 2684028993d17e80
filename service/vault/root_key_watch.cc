#include "vault/root_key_watch.h"

#include <algorithm>
#include <cstdint>
#include <exception>
#include <typeinfo>
#include <utility>

#include "core/log.h"
#include "core/wipe_stack.h"

namespace postern::vault {

using std::chrono::steady_clock;

std::string_view to_string(RootKeyState state) noexcept {
  switch (state) {
    case RootKeyState::Unknown: return "unknown";
    case RootKeyState::Ok: return "ok";
    case RootKeyState::Missing: return "missing";
    case RootKeyState::Wrong: return "wrong";
    case RootKeyState::Incomplete: return "incomplete";
  }
  return "unknown";
}

RootKeyWatch::RootKeyWatch(std::unique_ptr<RootKeyProvider> provider, Keyring& keyring,
                           RotationStore& store, Options options)
    : provider_(std::move(provider)), keyring_(keyring), store_(store), options_(options) {
  keyring_.set_creation(Keyring::Creation::Suspended);
}

RootKeyWatch::~RootKeyWatch() { stop(); }

void RootKeyWatch::load() {
  auto loaded = provider_->load();
  if (!loaded.ok()) {
    // What is here stays: it was right when it came, and still opens what it did.
    const std::lock_guard lock(mutex_);
    facts_.problem = loaded.error().detail;
    log::error("root_key.not_loaded",
               {{"reason", facts_.problem}, {"kept", root_key_ids(facts_.given)}});
    return;
  }
  auto ids = loaded.value().ids();
  {
    const std::lock_guard lock(mutex_);
    facts_.problem.clear();
    if (ids == facts_.given) return;
    facts_.given = ids;
  }
  keyring_.replace_root_keys(std::move(loaded).value());
  log::info("root_key.loaded", {{"active", ids.front()}, {"all", root_key_ids(ids)}});
}

/// Tenants with a key holder, as this process has their shares. For this no key is opened.
void RootKeyWatch::count_held() {
  const auto tenants = store_.held_tenants();
  if (!tenants.ok()) return;
  std::uint64_t held = 0, sealed = 0;
  for (const auto& each : tenants.value()) {
    if (!each.newest) continue;
    ++held;
    if (!keyring_.is_unsealed(each.tenant)) ++sealed;
  }
  const std::lock_guard lock(mutex_);
  facts_.held = held;
  facts_.sealed = sealed;
}

void RootKeyWatch::read_database() {
  const auto now = steady_clock::now();
  auto uses = store_.root_key_uses();
  if (!uses.ok()) return;  // as it was; /readyz speaks of the database itself
  uses_ = std::move(uses).value();
  next_reading_ = now + options_.when_ok;
  count_held();
  if (now < next_backlog_) return;
  next_backlog_ = now + options_.for_backlog;
  auto backlog = store_.backlog();
  const std::lock_guard lock(mutex_);
  facts_.backlog = backlog.ok() ? std::optional(backlog.value()) : std::nullopt;
}

void RootKeyWatch::conclude() {
  std::uint64_t keks = 0, lost = 0;
  std::string report;
  RootKeyState state = RootKeyState::Unknown;
  {
    const std::lock_guard lock(mutex_);
    facts_.wanted.clear();
    facts_.uses = uses_.value_or(std::vector<RootKeyUse>());
    for (const auto& use : facts_.uses) {
      keks += use.keks;
      if (std::find(facts_.given.begin(), facts_.given.end(), use.root_key_id) !=
          facts_.given.end()) {
        continue;
      }
      lost += use.keks;
      facts_.wanted.push_back(use.root_key_id);
    }
    facts_.state = facts_.given.empty() ? RootKeyState::Missing
                   : !uses_             ? RootKeyState::Unknown
                   : lost == 0          ? RootKeyState::Ok
                   : lost == keks       ? RootKeyState::Wrong
                                        : RootKeyState::Incomplete;
    state = facts_.state;
    const auto wanted = root_key_ids(facts_.wanted);
    const auto given = root_key_ids(facts_.given);
    report = std::string(to_string(state)) + ' ' + wanted + ' ' + given;
    if (report != reported_ && state == RootKeyState::Ok) {
      log::info("root_key.ok", {{"active", facts_.given.front()}});
    } else if (report != reported_ && state != RootKeyState::Unknown) {
      log::error("root_key.not_in_order", {{"state", to_string(state)},
                                           {"wanted", wanted},
                                           {"given", given},
                                           {"keks_that_do_not_open", std::to_string(lost)}});
    }
  }
  reported_ = report;
  keyring_.set_creation(state == RootKeyState::Ok ? Keyring::Creation::Allowed
                                                  : Keyring::Creation::Suspended);
}

void RootKeyWatch::check() {
  bool asked = false, settled = false;
  {
    const std::lock_guard lock(mutex_);
    asked = std::exchange(reload_, false);
    settled = facts_.state == RootKeyState::Ok;
  }
  try {
    const bool changed = provider_->changed() || asked;
    if (changed) load();
    if (changed || !settled || steady_clock::now() >= next_reading_) read_database();
  } catch (const std::exception& e) {
    log::error("root_key.check_threw", {{"type", typeid(e).name()}});  // the type, not what()
  }
  conclude();
}

void RootKeyWatch::start() {
  thread_ = std::thread([this] { run(); });
}

void RootKeyWatch::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    wake_.wait_for(lock, options_.interval, [&] { return stopping_ || reload_; });
    if (stopping_) return;
    lock.unlock();
    check();
    wipe_stack();
    lock.lock();
  }
}

void RootKeyWatch::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void RootKeyWatch::reload() {
  const std::lock_guard lock(mutex_);
  reload_ = true;
  wake_.notify_all();
}

RootKeyWatch::Facts RootKeyWatch::facts() const {
  const std::lock_guard lock(mutex_);
  return facts_;
}

}  // namespace postern::vault
