#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "audit/event.h"
#include "core/clock.h"
#include "core/ids.h"
#include "core/result.h"
#include "vault/keyring.h"
#include "vault/share_store.h"

/// Erasure: what a principal or a tenant has is removed, and the share that its keys took
/// is destroyed, so that copies of the database do not open either.
namespace postern::vault {

/// What was, or is being, erased.
struct Erasure {
  std::string id;
  std::optional<Principal> principal{};  ///< none: the tenant as a whole
  sys_seconds asked_at{};
  std::optional<sys_seconds> removed_at{};  ///< the rows are gone
  std::optional<sys_seconds> done_at{};     ///< the shares are destroyed
  std::optional<ShareId> share{};           ///< the principal's, when it had one
  std::uint64_t shares = 0;                 ///< how many were destroyed
  std::uint64_t credentials = 0, versions = 0;
  /// Copies of the database from then on hold nothing that opens without the shares.
  std::optional<sys_seconds> covered_since{};
  std::string statement{};  ///< when it is done
};

/// Where erasures stand. Implemented by storage. Each change is one transaction, with its
/// audit event. Errors of all: NotFound, Unavailable.
class ErasureStore {
 public:
  virtual ~ErasureStore() = default;

  struct Begun {
    Erasure erasure;
    bool anew = false;  ///< committed now, with the event
  };
  /// From then on nothing of the principal's is sealed anew, until it is done. One that is
  /// open goes on; when nothing is left, the last one is answered.
  /// Errors: NotFound (the tenant, or nothing is stored of the principal).
  virtual Result<Begun> begin(const TenantId& tenant, const Principal& principal,
                              const std::string& id, sys_seconds now,
                              const audit::Event& event) = 0;
  /// Removes all that the principal has, and notes which share it was under.
  virtual Result<Erasure> remove_rows(const TenantId& tenant, const std::string& id,
                                      sys_seconds now) = 0;

  struct Said {
    std::string statement;
    audit::Event event;
  };
  using Say = std::function<Result<Said>(const Erasure&)>;
  /// The share is destroyed: `say` says so, and every replica forgets the tenant's keys.
  /// One that is done already stays as it is.
  virtual Result<Erasure> finish(const TenantId& tenant, const std::string& id, sys_seconds now,
                                 const Say& say) = 0;
  virtual Result<Erasure> find(const TenantId& tenant, const std::string& id) = 0;

  struct Page {
    std::vector<Erasure> items;  ///< in the order of their ids
    std::string next;            ///< cursor; empty at the end
  };
  virtual Result<Page> list(const TenantId& tenant, std::string_view cursor,
                            std::uint32_t limit) = 0;

  /// Disables the tenant; from then on nothing of it is sealed anew.
  virtual Result<Begun> begin_tenant(const TenantId& tenant, const std::string& id, sys_seconds now,
                                     const audit::Event& event) = 0;
  /// Which shares the tenant's keys take, those included that open erasures are about to
  /// destroy: at most `limit`, in the order of their ids. Errors: Unavailable.
  virtual Result<std::vector<ShareId>> shares_of(const TenantId& tenant,
                                                 const std::optional<ShareId>& after,
                                                 std::uint32_t limit) = 0;
  /// Removes all that the tenant has but its audit chain, which ends with what `say` says.
  virtual Result<Erasure> finish_tenant(const TenantId& tenant, std::uint64_t shares,
                                        sys_seconds now, const Say& say) = 0;
  /// Also when the tenant is gone.
  virtual Result<Erasure> find_tenant(const TenantId& tenant) = 0;

  struct Open {
    TenantId tenant;
    std::string id;  ///< empty: of the tenant as a whole
  };
  /// Those of all tenants that are not done, whole tenants first.
  virtual Result<std::vector<Open>> open(const std::optional<Open>& after, std::uint32_t limit) = 0;
};

/// Erases, and goes on with what did not end: a replica may stop at any moment, and each
/// one does what is left. Thread-safe.
class Erasures {
 public:
  /// Signs what is said of an erasure that is done. Errors: KeyUnavailable.
  using Sign = std::function<Result<std::string>(const TenantId&, const Erasure&)>;

  /// @param shares  null: there is no share store.
  Erasures(ErasureStore& store, Keyring& keyring, ShareStore* shares, Sign sign,
           const Clock& clock);
  ~Erasures() { stop(); }
  Erasures(const Erasures&) = delete;
  Erasures& operator=(const Erasures&) = delete;

  /// As far as it gets: what is not done (`done_at`) goes on later. Errors: as begin().
  Result<ErasureStore::Begun> erase(const TenantId& tenant, const Principal& principal,
                                    const audit::Event& event);
  Result<ErasureStore::Begun> erase_tenant(const TenantId& tenant, const audit::Event& event);

  ErasureStore& store() noexcept { return store_; }

  /// Goes on with all that are open. One that fails keeps none of the others from it.
  void go_on();

  enum class ShareStoreState { None, Ok, Unreachable };
  ShareStoreState share_store() const noexcept { return share_store_; }
  void look_at_share_store();

  /// go_on() and look_at_share_store() from time to time, in a thread of its own.
  void start(std::chrono::milliseconds interval);
  void stop();  ///< idempotent

 private:
  Result<Erasure> finish(const TenantId& tenant, const std::string& id);
  Result<Erasure> finish_tenant(const TenantId& tenant);
  template <class Do>
  Result<std::uint64_t> each_share(const TenantId& tenant, const Do& act);
  Result<ErasureStore::Said> say(const TenantId& tenant, const Erasure& erasure) const;
  void run(std::chrono::milliseconds interval);

  ErasureStore& store_;
  Keyring& keyring_;
  ShareStore* const shares_;
  const Sign sign_;
  const Clock& clock_;
  std::atomic<ShareStoreState> share_store_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace postern::vault
