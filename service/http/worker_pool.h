#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace postern::http {

/// A fixed number of threads behind a bounded queue. When the queue is full
/// nothing waits: the caller is told at once.
class WorkerPool {
 public:
  /// One piece of work. Runs at most once; destroyed unrun when the pool stops.
  class Job {
   public:
    virtual ~Job() = default;
    virtual void run() noexcept = 0;
  };

  WorkerPool(const char* name, int threads, std::size_t queue_limit);
  ~WorkerPool();  ///< stops
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  /// False, leaving the job with the caller, when the queue is full or stopped.
  bool submit(std::unique_ptr<Job>& job);

  /// Drops what waits, lets what runs finish, joins. Idempotent.
  void stop();

 private:
  void work();

  const std::size_t queue_limit_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::unique_ptr<Job>> queue_;
  std::size_t idle_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace postern::http
