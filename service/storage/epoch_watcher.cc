#include "storage/epoch_watcher.h"

#include <atomic>
#include <map>
#include <string>
#include <utility>

#include "storage/follower.h"
#include "storage/postgres_config_store.h"
#include "storage/session.h"

namespace postern::storage {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr const char* kSetDirectory = "SELECT set_config('postern.scope', 'directory', true)";
constexpr Statement kShowLabel{"replica.show_label",
                               "SELECT set_config('application_name', $1, false)"};
constexpr const char* kEpochs = "SELECT tenant_id, epoch FROM tenant";

}  // namespace

class EpochWatcher::Impl {
 public:
  Impl(std::string conninfo, Changed changed, milliseconds interval, Label label)
      : changed_(std::move(changed)),
        label_(std::move(label)),
        follower_({std::move(conninfo), kEpochSessions, kEpochChannel, "tenant.epochs", interval},
                  [this](pqxx::connection& connection, Follower::Reading reading) {
                    show_label(connection, reading);
                    read(connection, reading != Follower::Reading::AtStart);
                  }) {}

  Status start() { return follower_.start(); }
  void stop() { follower_.stop(); }
  steady_clock::time_point last_confirmed() const noexcept { return follower_.last_confirmed(); }
  std::size_t known_tenants() const noexcept { return known_.load(); }

 private:
  void show_label(pqxx::connection& connection, Follower::Reading reading) {
    if (!label_) return;
    auto label = label_();
    if (reading != Follower::Reading::Again) {
      connection.prepare(kShowLabel.name, kShowLabel.sql);
    } else if (label == shown_) {
      return;
    }
    const auto name = std::string(kEpochSessions) + ' ' + label;
    pqxx::nontransaction tx(connection);
    pq::exec_prepared(tx, kShowLabel.name, name);
    shown_ = std::move(label);
  }

  void read(pqxx::connection& connection, bool call_back) {
    std::map<TenantId, std::uint64_t> now;
    {
      pqxx::work tx(connection);
      tx.exec(kSetDirectory);
      for (const auto& row : tx.exec(kEpochs)) {
        now.emplace(TenantId(text(row[0])), number<std::uint64_t>(row[1]));
      }
    }
    std::map<TenantId, std::uint64_t> moved;
    for (const auto& [tenant, epoch] : now) {
      const auto before = epochs_.find(tenant);
      if (before == epochs_.end() || before->second != epoch) moved.emplace(tenant, epoch);
    }
    for (const auto& [tenant, epoch] : epochs_) {
      if (!now.contains(tenant)) moved.emplace(tenant, kGone);
    }
    if (call_back) {
      for (const auto& [tenant, epoch] : moved) changed_(tenant, epoch);
    }
    // Last, so that a call that threw is made again.
    epochs_ = std::move(now);
    known_ = epochs_.size();
  }

  const Changed changed_;
  const Label label_;
  std::string shown_;
  std::atomic<std::size_t> known_{0};
  std::map<TenantId, std::uint64_t> epochs_;
  Follower follower_;  // last: its thread uses the others
};

EpochWatcher::EpochWatcher(std::string conninfo, Changed changed, milliseconds interval,
                           Label label)
    : impl_(std::make_unique<Impl>(std::move(conninfo), std::move(changed), interval,
                                   std::move(label))) {}
EpochWatcher::~EpochWatcher() = default;
Status EpochWatcher::start() { return impl_->start(); }
void EpochWatcher::stop() { impl_->stop(); }
steady_clock::time_point EpochWatcher::last_confirmed() const noexcept {
  return impl_->last_confirmed();
}
std::size_t EpochWatcher::known_tenants() const noexcept { return impl_->known_tenants(); }

}  // namespace postern::storage
