#include "policy/config_store.h"

namespace postern::policy {

std::string_view to_string(Kind kind) noexcept {
  switch (kind) {
    case Kind::Issuer: return "issuer";
    case Kind::Client: return "client";
    case Kind::Backend: return "backend";
    case Kind::Role: return "role";
    case Kind::Binding: return "binding";
  }
  return "";
}

std::optional<Kind> parse_kind(std::string_view name) noexcept {
  for (const Kind kind : {Kind::Issuer, Kind::Client, Kind::Backend, Kind::Role, Kind::Binding}) {
    if (to_string(kind) == name) return kind;
  }
  return std::nullopt;
}

}  // namespace postern::policy
