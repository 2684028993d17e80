#pragma once

#include <string>

#include "support/service_fixture.h"

namespace postern::test {

/// What came of a program of ours.
struct Finished {
  int status = 0;
  std::string output;  ///< standard output and error

  /// Warnings of what is not so here, as a limit on locked memory, stand before it.
  std::string last_line() const {
    const auto end = output.find_last_not_of('\n');
    const auto before = output.rfind('\n', end);  // npos + 1 is the beginning
    return end == output.npos ? "" : output.substr(before + 1, end - before);
  }

  static Finished wait_for(Process& process) {
    const int status = process.wait();
    return {status, process.output()};
  }
};

}  // namespace postern::test
