#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "audit/log.h"

namespace postern::audit {

/// Group commit: everything waiting becomes one batch, one transaction, one
/// fsync; then all of its callbacks run. Latency one commit, throughput many
/// per commit. One writer thread.
class GroupWriter {
 public:
  struct Options {
    std::size_t max_batch = 512;     ///< events in one transaction
    std::size_t max_waiting = 8192;  ///< events queued before submit() refuses
  };
  using Done = std::function<void(const Status&)>;

  GroupWriter(AuditLog& log, Options options);
  explicit GroupWriter(AuditLog& log) : GroupWriter(log, Options{}) {}
  ~GroupWriter();  ///< commits what waits, then stops

  /// `done` runs once, on the writer thread, after the commit or its failure;
  /// it must not block. With no events, done runs at once on the caller's
  /// thread. When the queue is full, done gets RateLimited at once.
  ///
  /// When a batch fails for any other reason than Unavailable (a tenant is gone,
  /// its key does not open), it is split so that the others are not refused with it.
  void submit(std::vector<Event> events, Done done);

  /// batches: transactions tried; events: committed; failures: events that were
  /// not, also those refused for a full queue; waiting: events in no batch yet.
  struct Stats {
    std::uint64_t batches = 0, events = 0, failures = 0;
    std::size_t waiting = 0;
  };
  Stats stats() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace postern::audit
