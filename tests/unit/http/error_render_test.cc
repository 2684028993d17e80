#include "http/error_render.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

namespace postern::http {
namespace {

using nlohmann::json;

struct Expected {
  ErrorCode code;
  int oauth_status;
  const char* oauth_name;
  int rest_status;
};
constexpr Expected kTable[] = {
    {ErrorCode::MalformedRequest, 400, "invalid_request", 400},
    {ErrorCode::InvalidToken, 400, "invalid_request", 422},
    {ErrorCode::InvalidClient, 401, "invalid_client", 401},
    {ErrorCode::UnauthorizedClient, 400, "unauthorized_client", 403},
    {ErrorCode::UnsupportedGrant, 400, "unsupported_grant_type", 400},
    {ErrorCode::TargetRefused, 400, "invalid_target", 422},
    {ErrorCode::ScopeRefused, 400, "invalid_scope", 422},
    {ErrorCode::InteractionRequired, 400, "interaction_required", 409},
    {ErrorCode::Forbidden, 400, "unauthorized_client", 403},
    {ErrorCode::NotFound, 404, "invalid_request", 404},
    {ErrorCode::Conflict, 409, "invalid_request", 409},
    {ErrorCode::PreconditionFailed, 412, "invalid_request", 412},
    {ErrorCode::TooLarge, 413, "invalid_request", 413},
    {ErrorCode::RateLimited, 429, "temporarily_unavailable", 429},
    {ErrorCode::Unavailable, 503, "temporarily_unavailable", 503},
    {ErrorCode::KeyUnavailable, 503, "temporarily_unavailable", 503},
    {ErrorCode::TenantSealed, 503, "temporarily_unavailable", 503},
    {ErrorCode::NeedsOutbound, 500, "server_error", 500},
    {ErrorCode::Internal, 500, "server_error", 500},
};

TEST(OAuthError, StatusAndNameOfEachCode) {
  for (const auto& row : kTable) {
    const auto reply = oauth_error(fail(row.code, "why"), false, "acme");
    EXPECT_EQ(reply.status(), row.oauth_status) << to_string(row.code);
    const auto body = json::parse(reply.body());
    EXPECT_EQ(body["error"], row.oauth_name) << to_string(row.code);
    const bool sealed = row.code == ErrorCode::TenantSealed;
    EXPECT_EQ(body.contains("error_description"), row.oauth_status < 500 || sealed);
    EXPECT_EQ(body.value("reason", ""), sealed ? "tenant_sealed" : "");
    EXPECT_EQ(reply.header("Content-Type"), "application/json");
    EXPECT_EQ(reply.header("Cache-Control"), "no-store");
    EXPECT_EQ(reply.header("Retry-After").has_value(),
              row.oauth_status == 429 || row.oauth_status == 503);
  }
}

TEST(OAuthError, ChallengesOnlyWhoUsedTheAuthorizationHeader) {
  const auto error = fail(ErrorCode::InvalidClient, "");
  EXPECT_EQ(oauth_error(error, false, "acme").header("WWW-Authenticate"), std::nullopt);
  EXPECT_EQ(oauth_error(error, true, "acme").header("WWW-Authenticate"),
            "Basic realm=\"acme\", charset=\"UTF-8\"");
  const auto other = fail(ErrorCode::InvalidToken, "");
  EXPECT_EQ(oauth_error(other, true, "acme").header("WWW-Authenticate"), std::nullopt);
}

TEST(Rfc6749_5_2, DescriptionHasOnlyAllowedBytes) {
  std::string every;
  for (int byte = 0; byte < 256; ++byte) every += static_cast<char>(byte);
  const auto reply = oauth_error(fail(ErrorCode::MalformedRequest, every), true, every);
  const std::string text = json::parse(reply.body())["error_description"];
  EXPECT_FALSE(text.empty());
  for (const char c : text) EXPECT_TRUE(c >= 0x20 && c <= 0x7e && c != '"' && c != '\\');
}

TEST(ErrorRender, ServerFaultsSayNothingMore) {
  for (const auto code : {ErrorCode::Internal, ErrorCode::Unavailable, ErrorCode::KeyUnavailable,
                          ErrorCode::TenantSealed, ErrorCode::NeedsOutbound}) {
    const auto error = fail(code, "canary detail", "canary diagnostic");
    EXPECT_EQ(oauth_error(error, true, "t").body().find("canary"), std::string::npos);
    EXPECT_EQ(problem(error).body().find("canary"), std::string::npos);
  }
  const auto diagnosed = fail(ErrorCode::Conflict, "taken", "canary diagnostic");
  EXPECT_EQ(oauth_error(diagnosed, true, "t").body().find("canary"), std::string::npos);
  EXPECT_EQ(problem(diagnosed).body().find("canary"), std::string::npos);
}

TEST(ErrorRender, RetryAfterIsTheErrors) {
  auto error = fail(ErrorCode::RateLimited, "");
  error.retry_after = std::chrono::seconds(17);
  EXPECT_EQ(oauth_error(error, false, "").header("Retry-After"), "17");
  EXPECT_EQ(problem(error).header("Retry-After"), "17");
}

TEST(Rfc9457, ProblemOfEachCode) {
  for (const auto& row : kTable) {
    const auto reply = problem(fail(row.code, "why"));
    EXPECT_EQ(reply.status(), row.rest_status) << to_string(row.code);
    const auto body = json::parse(reply.body());
    EXPECT_EQ(body["status"], row.rest_status);
    EXPECT_TRUE(body["type"].get<std::string>().starts_with("urn:postern:problem:"));
    EXPECT_FALSE(body["title"].get<std::string>().empty());
    EXPECT_EQ(body.contains("detail"), row.rest_status < 500);
    EXPECT_EQ(reply.header("Content-Type"), "application/problem+json");
  }
}

TEST(Rfc9457, PointerAndChallenge) {
  auto error = fail(ErrorCode::MalformedRequest, "too long");
  EXPECT_FALSE(json::parse(problem(error).body()).contains("pointer"));
  error.pointer = "/backends/0/name";
  EXPECT_EQ(json::parse(problem(error).body())["pointer"], "/backends/0/name");
  EXPECT_EQ(problem(fail(ErrorCode::Unauthenticated, "")).header("WWW-Authenticate"), "Bearer");
  EXPECT_EQ(problem(fail(ErrorCode::Forbidden, "")).header("WWW-Authenticate"), std::nullopt);
}

TEST(VaultError, HasVaultsStatusAndShape) {
  constexpr std::pair<ErrorCode, int> kStatus[] = {
      {ErrorCode::MalformedRequest, 400}, {ErrorCode::PreconditionFailed, 400},
      {ErrorCode::InvalidToken, 400},     {ErrorCode::Unauthenticated, 403},
      {ErrorCode::InvalidClient, 403},    {ErrorCode::Forbidden, 403},
      {ErrorCode::NotFound, 404},         {ErrorCode::Conflict, 409},
      {ErrorCode::TooLarge, 413},         {ErrorCode::RateLimited, 429},
      {ErrorCode::Internal, 500},         {ErrorCode::Unavailable, 503},
      {ErrorCode::KeyUnavailable, 503},   {ErrorCode::TenantSealed, 503}};
  for (const auto& [code, status] : kStatus) {
    const auto reply = vault_error(fail(code, "why \"so\"", "only for the log"));
    EXPECT_EQ(reply.status(), status) << to_string(code);
    EXPECT_EQ(reply.header("Content-Type"), "application/json");
    EXPECT_EQ(reply.header("Cache-Control"), "no-store");
    EXPECT_EQ(reply.header("WWW-Authenticate"), std::nullopt);
    EXPECT_EQ(reply.header("Retry-After").has_value(), status == 429 || status == 503);
    const auto errors = json::parse(reply.body()).at("errors");
    EXPECT_EQ(errors.size(), status == 404 ? 0u : 1u) << "an empty list is: no such secret";
    if (status != 404) {
      EXPECT_EQ(errors.at(0) == "why \"so\"", status < 500) << errors;
    }
  }
}

TEST(VaultError, NamesThePlaceOfAFault) {
  Error error = fail(ErrorCode::MalformedRequest, "must be text");
  EXPECT_EQ(vault_error(error).body(), R"({"errors":["must be text"]})");
  error.pointer = "/fields/url";
  EXPECT_EQ(vault_error(error).body(), R"({"errors":["fields/url: must be text"]})");
  EXPECT_EQ(vault_error(fail(ErrorCode::MalformedRequest, "")).body(),
            R"({"errors":["Malformed request"]})");
}

TEST(EdgeError, TakesTheShapeOfTheSurface) {
  EXPECT_EQ(surface_of("/t/acme/token"), Surface::OAuth);
  EXPECT_EQ(surface_of(""), Surface::OAuth);
  EXPECT_EQ(surface_of("/api/v1/x"), Surface::Rest);
  EXPECT_EQ(surface_of("/v1/secret/data/x"), Surface::Vault);
  EXPECT_EQ(surface_of("/t/acme/v1/secret/data/x"), Surface::Vault);
  EXPECT_EQ(surface_of("/t/acme/v11"), Surface::OAuth);

  EXPECT_EQ(edge_error(404, Surface::OAuth).body(), R"({"error":"not_found"})");
  EXPECT_EQ(edge_error(400, Surface::OAuth).body(), R"({"error":"invalid_request"})");
  EXPECT_EQ(edge_error(503, Surface::OAuth).body(), R"({"error":"temporarily_unavailable"})");
  EXPECT_EQ(edge_error(503, Surface::OAuth).header("Retry-After"), "1");
  EXPECT_EQ(edge_error(405, Surface::OAuth).header("Pragma"), "no-cache");
  EXPECT_EQ(edge_error(413, Surface::Rest).body(),
            R"({"type":"about:blank","title":"Content Too Large","status":413})");
  EXPECT_EQ(
      edge_error(413, Surface::Rest, "too much").body(),
      R"({"type":"about:blank","title":"Content Too Large","status":413,"detail":"too much"})");
  EXPECT_EQ(edge_error(413, Surface::OAuth, "too much").body(),
            R"({"error":"invalid_request","error_description":"too much"})");
  EXPECT_EQ(edge_error(404, Surface::Vault).body(), R"({"errors":[]})");
  EXPECT_EQ(edge_error(405, Surface::Vault).body(), R"({"errors":["Method Not Allowed"]})");
}

}  // namespace
}  // namespace postern::http
