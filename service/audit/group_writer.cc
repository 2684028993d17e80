#include "audit/group_writer.h"

#include <condition_variable>
#include <mutex>
#include <span>
#include <thread>
#include <typeinfo>

#include "core/log.h"
#include "core/wipe_stack.h"

namespace postern::audit {
namespace {

struct Submission {
  std::vector<Event> events;  ///< moved from once they are part of a batch; the size stays
  GroupWriter::Done done;
};

std::size_t events_in(std::span<const Submission> submissions) {
  std::size_t count = 0;
  for (const auto& submission : submissions) count += submission.events.size();
  return count;
}

void answer(const GroupWriter::Done& done, const Status& status) {
  try {
    done(status);
  } catch (const std::exception& e) {
    // One bad callback must not end the only writer. The type, not what().
    log::error("audit.callback_threw", {{"type", typeid(e).name()}});
  } catch (...) {
    log::error("audit.callback_threw");
  }
}

}  // namespace

class GroupWriter::Impl {
 public:
  Impl(AuditLog& log, Options options) : log_(log), options_(options) {
    thread_ = std::thread([this] { run(); });
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    ready_.notify_one();
    thread_.join();
  }

  void submit(std::vector<Event> events, Done done) {
    if (events.empty()) {
      done(Status());
      return;
    }
    bool was_empty = false;
    {
      const std::lock_guard lock(mutex_);
      if (stats_.waiting < options_.max_waiting) {
        was_empty = queue_.empty();
        stats_.waiting += events.size();
        queue_.push_back({std::move(events), std::move(done)});
        done = nullptr;
      } else {
        stats_.failures += events.size();
      }
    }
    if (done) {
      auto refused =
          fail(ErrorCode::RateLimited, "too many requests are waiting for the audit log");
      refused.retry_after = std::chrono::seconds(1);
      done(std::move(refused));
    } else if (was_empty) {
      ready_.notify_one();  // the writer sleeps only while the queue is empty
    }
  }

  Stats stats() const {
    const std::lock_guard lock(mutex_);
    return stats_;
  }

 private:
  void run() {
    std::vector<Submission> taken;
    while (take(taken)) {
      for (std::span<Submission> rest = taken; !rest.empty();) {
        const auto batch = rest.first(batch_length(rest));
        rest = rest.subspan(batch.size());
        write(batch);
      }
      taken.clear();
      wipe_stack();
    }
  }

  /// Everything waiting, in one swap. False: stopping, and nothing waits.
  bool take(std::vector<Submission>& taken) {
    std::unique_lock lock(mutex_);
    ready_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    taken.swap(queue_);
    return !taken.empty();
  }

  /// As many submissions as fit one transaction; one at least, whatever its size.
  std::size_t batch_length(std::span<const Submission> rest) const {
    std::size_t length = 1;
    std::size_t events = rest.front().events.size();
    while (length < rest.size()) {
      events += rest[length].events.size();
      if (events > options_.max_batch) break;
      ++length;
    }
    return length;
  }

  void write(std::span<Submission> batch) {
    const auto count = events_in(batch);
    {
      const std::lock_guard lock(mutex_);
      stats_.waiting -= count;
    }
    std::vector<Event> events;
    events.reserve(count);
    for (auto& submission : batch) {
      for (auto& event : submission.events) events.push_back(std::move(event));
    }
    commit(events, batch);
  }

  void commit(std::span<const Event> events, std::span<const Submission> batch) {
    auto status = append(events);
    // Another replica moved a chain on between our read and our write of it.
    if (!status.ok() && status.error().code == ErrorCode::Conflict) status = append(events);

    // What is wrong with one tenant (gone, its key does not open, a record too
    // large) must not refuse the others. An unreachable database is everybody's.
    if (!status.ok() && status.error().code != ErrorCode::Unavailable && batch.size() > 1) {
      const auto half = batch.size() / 2;
      const auto events_of_half = events_in(batch.first(half));
      commit(events.first(events_of_half), batch.first(half));
      commit(events.subspan(events_of_half), batch.subspan(half));
      return;
    }
    {
      const std::lock_guard lock(mutex_);
      (status.ok() ? stats_.events : stats_.failures) += events.size();
    }
    for (const auto& submission : batch) answer(submission.done, status);
  }

  Status append(std::span<const Event> events) {
    {
      const std::lock_guard lock(mutex_);
      ++stats_.batches;
    }
    const char* type = "unknown";
    try {
      return log_.append(events);
    } catch (const std::exception& e) {
      type = typeid(e).name();
    } catch (...) {
    }
    log::error("audit.append_threw", {{"type", type}});
    return fail(ErrorCode::Unavailable, "the audit log is not available", type);
  }

  AuditLog& log_;
  const Options options_;
  mutable std::mutex mutex_;  // never held while a callback or the log runs
  std::condition_variable ready_;
  std::vector<Submission> queue_;
  Stats stats_;
  bool stopping_ = false;
  std::thread thread_;
};

GroupWriter::GroupWriter(AuditLog& log, Options options)
    : impl_(std::make_unique<Impl>(log, options)) {}
GroupWriter::~GroupWriter() = default;

void GroupWriter::submit(std::vector<Event> events, Done done) {
  impl_->submit(std::move(events), std::move(done));
}

GroupWriter::Stats GroupWriter::stats() const { return impl_->stats(); }

}  // namespace postern::audit
