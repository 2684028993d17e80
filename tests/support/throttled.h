#pragma once

#include <string>

#include "support/service_fixture.h"

namespace postern::test {

/// How long a refused reply tells to wait; 0 when it is another.
inline int seconds_to_wait(const WireReply& reply) {
  return reply.status == 429 ? std::stoi(reply.header("Retry-After")) : 0;
}

}  // namespace postern::test
