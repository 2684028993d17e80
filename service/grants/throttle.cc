#include "grants/throttle.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>

namespace postern::grants {

std::string source_network(std::string_view address) {
  std::array<unsigned char, 16> bytes{};
  const std::string text(address);
  if (text.find(':') == std::string::npos || inet_pton(AF_INET6, text.c_str(), bytes.data()) != 1) {
    return text;
  }
  return std::string(reinterpret_cast<const char*>(bytes.data()), 8);
}

namespace {

crypto::Hash256 key_of(const TenantId& tenant, std::string_view client, std::string_view source) {
  const auto address = source_network(source);
  return crypto::sha256_parts({as_bytes(tenant.str()), as_bytes(client), as_bytes(address)});
}

}  // namespace

std::size_t Throttle::HashOfHash::operator()(const crypto::Hash256& hash) const noexcept {
  std::size_t out;
  std::memcpy(&out, hash.data(), sizeof out);
  return out;
}

Throttle::Entry* Throttle::find(const crypto::Hash256& key, sys_seconds now) {
  const auto it = index_.find(key);
  if (it == index_.end()) return nullptr;
  auto& entry = *it->second;
  if (now - entry.last_failure > options_.forget_after && entry.unreported == 0) {
    order_.erase(it->second);
    index_.erase(it);
    return nullptr;
  }
  return &entry;
}

std::optional<Throttle::Refusal> Throttle::refuses(const TenantId& tenant, std::string_view client,
                                                   std::string_view source) {
  const std::lock_guard lock(mutex_);
  if (index_.empty()) return std::nullopt;  // as nearly always
  const auto now = clock_.now();
  auto* entry = find(key_of(tenant, client, source), now);
  if (entry == nullptr || entry->blocked_until <= now) return std::nullopt;
  ++entry->unreported;
  Refusal refusal{entry->blocked_until - now, 0};
  if (now - entry->last_report >= options_.report_every) {
    refusal.to_record = std::exchange(entry->unreported, 0);
    entry->last_report = now;
  }
  return refusal;
}

std::uint64_t Throttle::failed(const TenantId& tenant, std::string_view client,
                               std::string_view source) {
  const auto key = key_of(tenant, client, source);
  const auto now = clock_.now();
  const std::lock_guard lock(mutex_);
  auto* entry = find(key, now);
  if (entry == nullptr) {
    if (order_.size() >= std::max<std::size_t>(1, options_.entries)) {
      index_.erase(order_.back().key);
      order_.pop_back();
    }
    order_.push_front({key, 0, now, {}, {}, 0});
    index_.emplace(key, order_.begin());
    entry = &order_.front();
  } else {
    order_.splice(order_.begin(), order_, index_.find(key)->second);
  }
  entry->last_failure = now;
  ++entry->failures;
  if (entry->failures > options_.free_failures) {
    const auto doublings = std::min(entry->failures - options_.free_failures - 1, 20U);
    entry->blocked_until = now + std::min<std::chrono::seconds>(
                                     std::chrono::seconds(1U << doublings), options_.max_delay);
  }
  return std::exchange(entry->unreported, 0);
}

std::uint64_t Throttle::succeeded(const TenantId& tenant, std::string_view client,
                                  std::string_view source) {
  const std::lock_guard lock(mutex_);
  if (index_.empty()) return 0;
  const auto it = index_.find(key_of(tenant, client, source));
  if (it == index_.end()) return 0;
  const auto unreported = it->second->unreported;
  order_.erase(it->second);
  index_.erase(it);
  return unreported;
}

std::size_t Throttle::entries() const {
  const std::lock_guard lock(mutex_);
  return order_.size();
}

}  // namespace postern::grants
