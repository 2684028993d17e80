#include "http/worker_pool.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "core/wipe_stack.h"

namespace postern::http {

WorkerPool::WorkerPool(const char* name, int threads, std::size_t queue_limit)
    : queue_limit_(queue_limit) {
  for (int i = 0; i < std::max(threads, 1); ++i) {
    threads_.emplace_back([this] { work(); });
    pthread_setname_np(threads_.back().native_handle(), name);
  }
}

WorkerPool::~WorkerPool() { stop(); }

bool WorkerPool::submit(std::unique_ptr<Job>& job) {
  bool wake = false;
  {
    const std::lock_guard lock(mutex_);
    // A job that an idle thread takes at once does not wait.
    if (stopping_ || queue_.size() >= queue_limit_ + idle_) return false;
    queue_.push_back(std::move(job));
    wake = idle_ > 0;
  }
  if (wake) wake_.notify_one();
  return true;
}

void WorkerPool::stop() {
  std::deque<std::unique_ptr<Job>> dropped;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    dropped.swap(queue_);
  }
  wake_.notify_all();
  dropped.clear();
  for (auto& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void WorkerPool::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    ++idle_;
    wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    --idle_;
    if (stopping_) return;
    auto job = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    job->run();
    job.reset();
    wipe_stack();
    lock.lock();
  }
}

}  // namespace postern::http
