#pragma once

#include <string>

#include "support/service_fixture.h"

namespace postern::test {

/// What came of a program of ours.
struct Finished {
  int status = 0;
  std::string output;  ///< standard output and error

  static Finished wait_for(Process& process) {
    const int status = process.wait();
    return {status, process.output()};
  }
};

}  // namespace postern::test
