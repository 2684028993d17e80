#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "vault/root_key_provider.h"

namespace postern::vault {

/// A program that writes root keys to its standard output, in the form of a root key
/// file: a key management system's client, a hardware token's, one's own.
///
/// It is named by its absolute path and belongs, as the directories to it need not, to
/// root or this user, writable by nobody else. No shell reads the command. It gets no
/// environment, no input, no descriptor of ours, and the directory `/`; what it says on
/// standard error is lost, for it may be a key. It is stopped, with all it started, when
/// it takes too long or says too much.
class RootKeyCommand final : public RootKeyProvider {
 public:
  struct Options {
    std::chrono::milliseconds time{10'000};
    std::size_t max_bytes = 64 * 1024;
    std::chrono::seconds again_after{30};  ///< when it has failed
  };
  RootKeyCommand(std::vector<std::string> command, Options options)
      : command_(std::move(command)), options_(options) {}

  Result<RootKeys> load() override;
  /// Nobody says when a program would answer otherwise: only after a failure, now and
  /// then. Otherwise SIGHUP has it asked again.
  bool changed() override;

 private:
  Result<RootKeys> ask() const;

  const std::vector<std::string> command_;
  const Options options_;
  bool failed_ = true;
  std::chrono::steady_clock::time_point next_{};
};

}  // namespace postern::vault
