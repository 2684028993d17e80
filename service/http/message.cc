#include "http/message.h"

#include <algorithm>
#include <array>
#include <stdexcept>

#include "http/ascii.h"

namespace postern::http {
namespace {

bool carries_secrets(std::string_view name) {
  static constexpr std::array<std::string_view, 5> kNames = {
      "authorization", "cookie", "dpop", "proxy-authorization", "x-vault-token"};
  return std::any_of(kNames.begin(), kNames.end(),
                     [&](std::string_view known) { return ascii_iequals(name, known); });
}

bool belongs_to_server(std::string_view name) {
  static constexpr std::array<std::string_view, 5> kNames = {"connection", "content-length", "date",
                                                             "transfer-encoding", "x-request-id"};
  return std::any_of(kNames.begin(), kNames.end(),
                     [&](std::string_view known) { return ascii_iequals(name, known); });
}

bool is_field_value(std::string_view value) {
  return std::none_of(value.begin(), value.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte < 0x20 && c != '\t') || byte == 0x7f;
  });
}

}  // namespace

std::optional<std::string_view> Request::header(std::string_view name) const {
  std::optional<std::string_view> found;
  for (const auto& [key, value] : headers) {
    if (!ascii_iequals(key, name)) continue;
    if (found) return std::nullopt;
    found = value;
  }
  return found;
}

std::size_t Request::count(std::string_view name) const {
  return static_cast<std::size_t>(
      std::count_if(headers.begin(), headers.end(),
                    [&](const auto& header) { return ascii_iequals(header.first, name); }));
}

std::optional<std::string> Request::list(std::string_view name) const {
  std::optional<std::string> joined;
  for (const auto& [key, value] : headers) {
    if (!ascii_iequals(key, name)) continue;
    if (joined) *joined += ',';
    joined = std::move(joined).value_or("") + value;
  }
  return joined;
}

Request::~Request() {
  for (auto& [name, value] : headers) {
    if (carries_secrets(name)) wipe(value);
  }
  if (!query.empty()) wipe(query);  // clients put tokens there although nobody reads them
}

Reply Reply::json(int status, std::string body) {
  Reply reply(status);
  reply.headers_.emplace_back("Content-Type", "application/json");
  reply.body_ = std::move(body);
  return reply;
}

Reply Reply::text(int status, std::string body) {
  Reply reply(status);
  reply.headers_.emplace_back("Content-Type", "text/plain; charset=utf-8");
  reply.body_ = std::move(body);
  return reply;
}

Reply& Reply::set_header(std::string_view name, std::string_view value) {
  if (!is_token(name) || !is_field_value(value)) throw std::logic_error("malformed reply header");
  if (belongs_to_server(name)) throw std::logic_error("reply header set by the server");
  for (auto& header : headers_) {
    if (ascii_iequals(header.first, name)) {
      header.second = value;
      return *this;
    }
  }
  headers_.emplace_back(name, value);
  return *this;
}

Reply& Reply::no_store() {
  return set_header("Cache-Control", "no-store").set_header("Pragma", "no-cache");
}

std::optional<std::string_view> Reply::header(std::string_view name) const {
  for (const auto& [key, value] : headers_) {
    if (ascii_iequals(key, name)) return value;
  }
  return std::nullopt;
}

Reply::~Reply() {
  if (!body_.empty()) wipe(body_);
}

}  // namespace postern::http
