#include <algorithm>
#include <iterator>

#include "policy/config_reader.h"

namespace postern::policy {

using namespace config;

namespace {

/// `!` before a URL takes it out again.
bool takes_out(std::string_view entry) { return entry.starts_with('!'); }

}  // namespace

bool Registration::takes_metadata_of(std::string_view client_id) const {
  const auto names = [&](std::string_view url) {
    return url.ends_with('/') ? client_id.starts_with(url) : client_id == url;
  };
  bool taken = false;
  for (const std::string_view entry : metadata_urls) {
    if (!takes_out(entry)) {
      taken |= names(entry);
    } else if (names(entry.substr(1))) {
      return false;  // whatever else names it
    }
  }
  return taken && detail::is_client_url(client_id);
}

Result<Registration> read_registration(const Json& value, const std::string& pointer) {
  POSTERN_TRY(auto reader, Reader::of(value, pointer));
  Registration registration;
  POSTERN_CHECK(reader.flag("dynamic", registration.dynamic));
  POSTERN_CHECK(reader.texts(
      "client_id_metadata",
      [&](const auto& text, const auto& place) -> Status {
        // Whole path segments, so that no neighbour's name begins alike.
        if (!detail::is_client_url(std::string_view(text).substr(takes_out(text) ? 1 : 0))) {
          return at(place,
                    "must be an https URL with a path, in lower case up to the path, without "
                    "percent signs, query, fragment and dot segments");
        }
        registration.metadata_urls.push_back(text);
        return {};
      },
      100));
  if (!registration.metadata_urls.empty() &&
      std::all_of(registration.metadata_urls.begin(), registration.metadata_urls.end(),
                  takes_out)) {
    return at(reader.below("client_id_metadata"), "only takes out; name what is taken, too");
  }
  POSTERN_CHECK(reader.texts("grants", [&](const auto& text, const auto& place) -> Status {
    GrantType grant{};
    POSTERN_CHECK(read_grant(text, place, grant));
    registration.grants.insert(grant);
    return {};
  }));
  if (reader.find("grants") == nullptr) registration.grants.insert(GrantType::TokenExchange);
  POSTERN_CHECK(reader.texts("authentication", [&](const auto& text, const auto& place) -> Status {
    ClientAuthentication method{};
    POSTERN_CHECK(read_method(text, place, method));
    if (method == ClientAuthentication::Workload) {
      return at(place, "names whom an issuer vouches for; such clients are configured");
    }
    registration.authentication.insert(method);
    return {};
  }));
  if (reader.find("authentication") == nullptr) {
    registration.authentication.insert(ClientAuthentication::PrivateKeyJwt);
  }
  if (registration.grants.empty()) return at(reader.below("grants"), "must not be empty");
  if (registration.authentication.empty()) {
    return at(reader.below("authentication"), "must not be empty");
  }
  if (!registration.metadata_urls.empty() && registration.authentication.size() == 1 &&
      registration.authentication.contains(ClientAuthentication::Secret)) {
    return at(
        reader.below("authentication"),
        "leaves clients with a metadata document no way to authenticate: they have no secret");
  }
  POSTERN_CHECK(reader.names("backends", registration.backends));
  POSTERN_CHECK(reader.names("scopes", registration.scopes));
  for (const auto& scope : registration.scopes.names) {
    if (!ScopeSet::is_token(scope)) {
      return at(reader.below("scopes"), "has a malformed scope token");
    }
  }
  POSTERN_CHECK(read_sorted(reader, "audiences", registration.audiences));
  POSTERN_CHECK(reader.flag("dpop_bound", registration.dpop_bound));
  if (const auto* most = reader.find("max_clients")) {
    if (!most->is_number_unsigned() || most->get<std::uint64_t>() < 1 ||
        most->get<std::uint64_t>() > 500) {
      return at(reader.below("max_clients"), "must be a whole number from 1 to 500");
    }
    registration.max_clients = most->get<std::uint32_t>();
  }
  if (reader.find("secret_expires_in") != nullptr) {
    seconds lifetime{};
    POSTERN_CHECK(reader.duration("secret_expires_in", lifetime, 300, 366 * 86'400));
    registration.secret_expires_in = lifetime;
  }
  POSTERN_CHECK(reader.finish());
  if (!registration.dynamic && registration.metadata_urls.empty()) {
    return at(pointer, "lets nobody register; set dynamic or client_id_metadata, or leave it out");
  }
  return registration;
}

Json write(const Registration& registration) {
  Json json{{"dynamic", registration.dynamic},
            {"client_id_metadata", registration.metadata_urls},
            {"grants", Json::array()},
            {"authentication", Json::array()},
            {"backends", config::write(registration.backends)},
            {"scopes", config::write(registration.scopes)},
            {"audiences", registration.audiences},
            {"dpop_bound", registration.dpop_bound},
            {"max_clients", registration.max_clients}};
  for (const auto grant : registration.grants) {
    json["grants"].push_back(std::string(grant_name(grant)));
  }
  for (const auto method : registration.authentication) {
    json["authentication"].push_back(std::string(method_name(method)));
  }
  if (registration.secret_expires_in) {
    json["secret_expires_in"] = registration.secret_expires_in->count();
  }
  return json;
}

}  // namespace postern::policy
