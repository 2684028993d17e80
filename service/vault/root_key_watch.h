#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "vault/keyring.h"
#include "vault/root_key_provider.h"
#include "vault/rotation.h"

namespace postern::vault {

/// Whether this process has the root keys that the database's KEKs are under.
enum class RootKeyState {
  Unknown,     ///< the database could not be read yet
  Ok,          ///< every KEK is under a root key that is here
  Missing,     ///< there is no root key here
  Wrong,       ///< no KEK is under a root key that is here
  Incomplete,  ///< some KEKs are under root keys that are not here
};
std::string_view to_string(RootKeyState state) noexcept;  ///< "unknown", "ok", "missing", …

/// Gives the keyring its root keys, and holds them against the database: when the
/// provider has others (a file was put right) within a second, and every few
/// seconds in any case. Until all fit, nothing new is made under what is here;
/// what does not open is refused by the keyring itself.
class RootKeyWatch {
 public:
  struct Options {
    std::chrono::milliseconds interval{1000};      ///< between looks at the provider
    std::chrono::milliseconds when_ok{5000};       ///< between readings of the database
    std::chrono::milliseconds for_backlog{30000};  ///< between counts of the rows to rewrap
  };
  RootKeyWatch(std::unique_ptr<RootKeyProvider> provider, Keyring& keyring, RotationStore& store,
               Options options);
  ~RootKeyWatch();  ///< stop()
  RootKeyWatch(const RootKeyWatch&) = delete;
  RootKeyWatch& operator=(const RootKeyWatch&) = delete;

  /// Asks the provider, when it may have changed, and the database. Not to be called
  /// after start().
  void check();
  /// Keeps checking, on a thread of its own.
  void start();
  void stop();
  /// Asks the provider again, now, whether it seems to have changed or not (SIGHUP).
  void reload();

  struct Facts {
    RootKeyState state = RootKeyState::Unknown;
    std::vector<std::string> given;   ///< ids of the root keys here, the active one first
    std::vector<std::string> wanted;  ///< ids that the database needs and that are not here
    std::vector<RootKeyUse> uses;
    std::optional<Backlog> backlog;
    std::uint64_t held = 0;    ///< tenants whose newest KEK demands its key holder's share
    std::uint64_t sealed = 0;  ///< of them, those whose share is not here
    std::string problem;       ///< why the provider gave none, when it last failed; for operators
  };
  Facts facts() const;

 private:
  void run();
  void load();
  void read_database();
  void count_held();
  void conclude();

  const std::unique_ptr<RootKeyProvider> provider_;
  Keyring& keyring_;
  RotationStore& store_;
  const Options options_;

  mutable std::mutex mutex_;  // guards what follows; never held while anything is asked
  std::condition_variable wake_;
  Facts facts_;
  bool reload_ = true, stopping_ = false;

  // Of the checking thread.
  std::optional<std::vector<RootKeyUse>> uses_;
  std::chrono::steady_clock::time_point next_reading_{}, next_backlog_{};
  std::string reported_;
  std::thread thread_;
};

}  // namespace postern::vault
