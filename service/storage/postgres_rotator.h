#pragma once

#include <functional>
#include <string>
#include <vector>

#include "storage/database.h"
#include "vault/credential_rotation.h"

namespace postern::storage {

/// Sets the passwords of roles on PostgreSQL servers that the operator names. What the
/// server is told is the verifier (scram_verifier.h): a password is in no statement.
///
/// With one role the value before ends when the new one is set. Two roles take turns: the
/// one before keeps its password until it is retired, and then has none. Thread-safe.
class PostgresRotator final : public vault::Rotator {
 public:
  struct Options {
    std::vector<std::string> hosts{};  ///< `host:port`; others are refused
    std::string ca_file{};             ///< who vouches for them; empty: the system's file
    /// For development: servers on loopback also without TLS.
    bool allow_insecure_loopback = false;
  };
  explicit PostgresRotator(Options options) : options_(std::move(options)) {}

  Status check(const vault::RotationSettings& settings) const override;
  Result<std::string> next_role(const vault::RotationSettings& settings,
                                const vault::Fields& current) const override;
  bool retires(const vault::RunningRotation& running) const override;
  Status set(const Step& step) override;
  Status test(const Step& step) override;
  Status retire(const Step& step) override;
  Status undo(const Step& step) override;

  /// How a log-in reaches the server of the settings; public for tests.
  DatabaseOptions server(const vault::RotationSettings& settings, const vault::LogIn& log_in) const;

 private:
  /// @param verifier  empty: no password at all
  /// @param before_change  may be none
  Status set_password(const Step& step, const std::string& role, const std::string& verifier,
                      const std::function<Status()>& before_change = {}) const;

  const Options options_;
};

}  // namespace postern::storage
