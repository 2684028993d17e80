#pragma once

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>

#include "support/temporary_directory.h"

namespace postern::test {

/// A SoftHSM with one token, in a directory of its own; for this process, and for
/// those that are given the variable.
class SoftToken {
 public:
  static constexpr std::string_view kLabel = "postern-test";
  static constexpr std::string_view kPin = "pin-4711-canary";
  static constexpr const char* kVariable = "SOFTHSM2_CONF";

  SoftToken() {
    directory_.write("softhsm2.conf", "directories.tokendir = " + tokens().string() +
                                          "\nobjectstore.backend = file\nlog.level = ERROR\n");
    std::filesystem::create_directory(tokens());
    ::setenv(kVariable, configuration().c_str(), 1);
    add(kLabel);
  }

  /// One more.
  void add(std::string_view label) const {
    const auto command = "softhsm2-util --init-token --free --so-pin so-pin-0815 --pin " +
                         std::string(kPin) + " --label '" + std::string(label) + "' >/dev/null";
    if (std::system(command.c_str()) != 0) throw std::runtime_error("softhsm2-util");
  }

  static std::filesystem::path module() { return "/usr/lib/softhsm/libsofthsm2.so"; }
  std::string configuration() const { return (directory_.path() / "softhsm2.conf").string(); }
  std::filesystem::path tokens() const { return directory_.path() / "tokens"; }

 private:
  TemporaryDirectory directory_;
};

}  // namespace postern::test
