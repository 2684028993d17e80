#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "postern/error.h"
#include "postern/secret_bytes.h"

namespace postern::sdk {

using Json = nlohmann::json;

/// Overwrites every string below `value`.
void wipe_strings(Json& value) noexcept;

/// A JSON value that may hold secrets and overwrites its strings at the end.
class SecretJson {
 public:
  SecretJson() = default;
  explicit SecretJson(Json value) : value_(std::move(value)) {}
  ~SecretJson() { wipe_strings(value_); }
  SecretJson(SecretJson&& other) noexcept : value_(std::move(other.value_)) {}
  SecretJson& operator=(SecretJson&& other) noexcept {
    std::swap(value_, other.value_);
    return *this;
  }
  SecretJson(const SecretJson&) = delete;
  SecretJson& operator=(const SecretJson&) = delete;

  Json& operator*() noexcept { return value_; }
  const Json& operator*() const noexcept { return value_; }
  Json* operator->() noexcept { return &value_; }
  const Json* operator->() const noexcept { return &value_; }

 private:
  Json value_;
};

/// Parses one JSON text. Refused, with a reason that quotes nothing of the
/// text: anything but one value, duplicate member names (nlohmann/json keeps
/// the last of them), NUL bytes, and nesting deeper than `max_depth`.
Result<SecretJson> parse_json(std::string_view text, int max_depth = 64);

/// Compact text in memory that is wiped. Invalid UTF-8 is replaced.
SecretBytes dump_secret(const Json& value);

}  // namespace postern::sdk
