#include "policy/snapshot.h"

#include <gtest/gtest.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/code_of.h"
#include "support/tenant_fixture.h"

namespace postern::policy {
namespace {

using namespace std::chrono_literals;
using test::code_of;
using test::must;
using test::TenantFixture;
using token::Json;

struct Snapshots : TenantFixture {
  StoredTenant& stored() { return tenants.stored(tenant); }
  Result<std::shared_ptr<const TenantSnapshot>> build(const StoredTenant& from) {
    return TenantSnapshot::build(from, test::kBaseUrl, tenants.keyring(), clock.now());
  }
  std::shared_ptr<const TenantSnapshot> rebuilt() { return must(build(stored())); }
  static StoredObject& object(StoredTenant& in, Kind kind) {
    for (auto& candidate : in.objects) {
      if (candidate.kind == kind) return candidate;
    }
    throw std::logic_error("no such object");
  }
};

TEST(TenantSnapshot, HoldsWhatWasStored) {
  Snapshots f;
  const auto& snapshot = *f.snapshot;
  EXPECT_EQ(snapshot.tenant(), f.tenant);
  EXPECT_EQ(snapshot.issuer_url(), "https://sts.example.com/t/acme");
  EXPECT_EQ(snapshot.epoch(), 1u);
  EXPECT_TRUE(snapshot.enabled());
  ASSERT_NE(snapshot.find_issuer(f.idp.issuer()), nullptr);
  EXPECT_EQ(snapshot.find_issuer(f.idp.issuer())->static_keys->size(), 1u);
  EXPECT_EQ(snapshot.find_issuer(f.idp.issuer() + "/"), nullptr);
  EXPECT_EQ(snapshot.find_issuer(""), nullptr);
  EXPECT_NE(snapshot.find_client("gw-01"), nullptr);
  EXPECT_EQ(snapshot.find_client("GW-01"), nullptr);
  EXPECT_NE(snapshot.find_backend("files"), nullptr);
  EXPECT_EQ(snapshot.find_backend("docs"), nullptr);
  EXPECT_NE(snapshot.resolve("docs"), nullptr);
  EXPECT_GT(snapshot.footprint(), 8192u);
}

TEST(TenantSnapshot, DisabledIssuersAreNotFound) {
  Snapshots f;
  f.issuer()["enabled"] = false;
  f.load();
  EXPECT_EQ(f.snapshot->find_issuer(f.idp.issuer()), nullptr);
}

TEST(TenantSnapshot, PublishesPublicKeysOnlyWithThumbprints) {
  Snapshots f;
  const auto document = must(token::parse_json(f.snapshot->jwks_document()));
  ASSERT_EQ(document.at("keys").size(), 2u);
  for (const auto& key : document.at("keys")) {
    EXPECT_FALSE(key.contains("d"));
    EXPECT_EQ(key.at("use"), "sig");
    EXPECT_TRUE(key.at("kid").is_string());
    EXPECT_TRUE(key.at("alg") == "ES256" || key.at("alg") == "EdDSA");
  }
}

TEST(TenantSnapshot, WritesMetadataThatMcpClientsTake) {
  Snapshots f;
  const auto metadata = must(token::parse_json(f.snapshot->metadata_document()));
  EXPECT_EQ(metadata.at("issuer"), "https://sts.example.com/t/acme");
  EXPECT_EQ(metadata.at("token_endpoint"), "https://sts.example.com/t/acme/token");
  EXPECT_EQ(metadata.at("jwks_uri"), "https://sts.example.com/t/acme/jwks");
  EXPECT_EQ(metadata.at("response_types_supported"), Json({"code"}));
  EXPECT_EQ(metadata.at("code_challenge_methods_supported"), Json({"S256"}));
  EXPECT_TRUE(metadata.contains("authorization_endpoint"));
  EXPECT_EQ(metadata.at("grant_types_supported"),
            Json({"urn:ietf:params:oauth:grant-type:token-exchange", "client_credentials"}));
  EXPECT_EQ(metadata.at("token_endpoint_auth_methods_supported"),
            Json({"client_secret_basic", "client_secret_post", "private_key_jwt"}));
  EXPECT_EQ(metadata.at("scopes_supported"),
            Json({"files:read", "files:write", "repo:read", "repo:write"}));
  // RFC 8414 §3.2: no empty lists.
  f.manifest["backends"] = Json::array({{{"name", "plain"}, {"audience", "https://p.example"}}});
  f.role()["allow"] = {"*:*"};
  f.load();
  EXPECT_FALSE(
      must(token::parse_json(f.snapshot->metadata_document())).contains("scopes_supported"));
}

TEST(TenantSnapshot, RefusesRowsThatDoNotReadBack) {
  Snapshots f;
  const auto with = [&](auto change) {
    auto altered = f.stored();
    change(altered);
    return code_of(f.build(altered));
  };
  for (const auto kind : {Kind::Issuer, Kind::Client, Kind::Backend, Kind::Role, Kind::Binding}) {
    EXPECT_EQ(with([&](auto& in) { f.object(in, kind).spec = "{"; }), ErrorCode::Internal);
    EXPECT_EQ(with([&](auto& in) { f.object(in, kind).spec = "{}"; }), ErrorCode::Internal);
    EXPECT_EQ(with([&](auto& in) { f.object(in, kind).spec = "[]"; }), ErrorCode::Internal);
    // A row moved under another name must not take that name's place.
    EXPECT_EQ(with([&](auto& in) { f.object(in, kind).name = "other"; }), ErrorCode::Internal);
  }
  EXPECT_EQ(with([](auto& in) { in.row.settings = "null"; }), ErrorCode::Internal);
  EXPECT_EQ(with([](auto& in) { in.signing_keys[0].algorithm = "HS256"; }), ErrorCode::Internal);
  EXPECT_EQ(with([](auto& in) { in.signing_keys[0].public_jwk = "{"; }), ErrorCode::Internal);
  EXPECT_EQ(with([](auto& in) { in.signing_keys[0].wrapped.wrapped[40] ^= std::byte{1}; }),
            ErrorCode::Internal);
}

TEST(TenantSnapshot, DoesNotOpenAnotherTenantsSigningKey) {
  Snapshots f;
  auto manifest = f.manifest;
  manifest["tenant"] = "other";
  f.tenants.apply(manifest, f.clock.now());
  auto altered = f.stored();
  altered.signing_keys = f.tenants.stored(TenantId("other")).signing_keys;
  EXPECT_EQ(code_of(f.build(altered)), ErrorCode::Internal);
}

TEST(TenantSnapshot, NeverPublishesAPrivateMember) {
  Snapshots f;
  auto altered = f.stored();
  auto jwk = must(token::parse_json(altered.signing_keys[0].public_jwk));
  jwk["d"] = "AAAA";
  altered.signing_keys[0].public_jwk = token::dump_json(jwk);
  EXPECT_EQ(code_of(f.build(altered)), ErrorCode::Internal);
}

TEST(TenantSnapshot, SignsWithTheNewestActiveKeyAndPublishesTheOthers) {
  Snapshots f;
  const auto old_kid = f.snapshot->signer(crypto::Algorithm::ES256, f.clock.now())->kid;
  auto next = f.tenants.new_signing_key(f.tenant, crypto::Algorithm::ES256, f.clock.now() + 1h);
  next.state = SigningKeyState::Pending;
  f.stored().signing_keys.insert(f.stored().signing_keys.begin(), next);
  EXPECT_EQ(f.rebuilt()->signer(crypto::Algorithm::ES256, f.clock.now())->kid, old_kid);
  EXPECT_TRUE(f.rebuilt()->own_keys().has_kid(next.kid));

  f.stored().signing_keys.front().state = SigningKeyState::Active;
  EXPECT_EQ(f.rebuilt()->signer(crypto::Algorithm::ES256, f.clock.now())->kid, next.kid);

  for (auto& key : f.stored().signing_keys) {
    if (key.kid != old_kid) continue;
    key.state = SigningKeyState::Retired;
    key.retired_at = f.clock.now();
  }
  EXPECT_TRUE(f.rebuilt()->own_keys().has_kid(old_kid));
  f.clock.advance(1h + 1min);  // its last token has just expired
  EXPECT_TRUE(f.rebuilt()->own_keys().has_kid(old_kid));
  f.clock.advance(1min);
  EXPECT_FALSE(f.rebuilt()->own_keys().has_kid(old_kid));
  EXPECT_EQ(f.rebuilt()->jwks_document().find(old_kid), std::string::npos);
}

TEST(TenantSnapshot, HasNoSignerForAnAlgorithmWithoutActiveKey) {
  Snapshots f;
  EXPECT_EQ(f.snapshot->signer(crypto::Algorithm::RS256, f.clock.now()), nullptr);
  for (auto& key : f.stored().signing_keys) key.state = SigningKeyState::Retired;
  EXPECT_EQ(f.rebuilt()->signer(crypto::Algorithm::ES256, f.clock.now()), nullptr);
}

TEST(ClientSecrets, MatchOnlyTheirClientOfTheirTenantWhileTheyLive) {
  Snapshots f;
  const auto secret = [](const std::string& text) {
    return ClientSecret(SecureBuffer::copy_of(text));
  };
  const auto& good = f.tenants.secret(f.tenant, "gw-01");
  const auto now = f.clock.now();
  EXPECT_TRUE(f.snapshot->client_secret_matches("gw-01", secret(good), now));
  EXPECT_FALSE(f.snapshot->client_secret_matches("gw-02", secret(good), now));
  EXPECT_FALSE(f.snapshot->client_secret_matches("", secret(good), now));
  EXPECT_FALSE(f.snapshot->client_secret_matches("gw-01", secret(""), now));
  EXPECT_FALSE(f.snapshot->client_secret_matches("gw-01", secret(good + "x"), now));
  EXPECT_FALSE(
      f.snapshot->client_secret_matches("gw-01", secret(good.substr(0, good.size() - 1)), now));
  // The same hash in another tenant's table opens nothing: the tenant is hashed in.
  auto manifest = f.manifest;
  manifest["tenant"] = "other";
  f.tenants.apply(manifest, now);
  f.tenants.stored(TenantId("other")).client_secrets = f.stored().client_secrets;
  EXPECT_FALSE(
      f.tenants.snapshot(TenantId("other"))->client_secret_matches("gw-01", secret(good), now));

  f.stored().client_secrets[0].expires_at = now + 10s;
  EXPECT_TRUE(f.rebuilt()->client_secret_matches("gw-01", secret(good), now + 9s));
  EXPECT_FALSE(f.rebuilt()->client_secret_matches("gw-01", secret(good), now + 10s));
}

TEST(AdminTokens, MatchTheirTenantWhileTheyLive) {
  Snapshots f;
  const auto bearer = [](const std::string& text) {
    return BearerToken(SecureBuffer::copy_of(text));
  };
  const std::string text = "postern_ta_acme_" + std::string(43, 'x');
  const auto now = f.clock.now();
  f.stored().admin_tokens = {
      {"t1", "laptop", admin_token_hash(f.tenant, bearer(text)), now, now + 1h},
      {"t2", "other", admin_token_hash(TenantId("other"), bearer(text)), now, std::nullopt}};
  const auto snapshot = f.rebuilt();
  EXPECT_EQ(snapshot->admin_token_id(bearer(text), now), "t1");
  EXPECT_EQ(snapshot->admin_token_id(bearer(text), now + 1h), std::nullopt);
  EXPECT_EQ(snapshot->admin_token_id(bearer(text + "x"), now), std::nullopt);
  EXPECT_EQ(snapshot->admin_token_id(bearer(""), now), std::nullopt);
}

TEST(RolesOf, AreThoseOfThePrincipalAndOfItsGroups) {
  Snapshots f;
  f.manifest["roles"].push_back({{"name", "own"}, {"allow", {"search:*"}}});
  f.manifest["bindings"].push_back(
      {{"role", "own"}, {"subjects", {{{"issuer", f.idp.issuer()}, {"subject", "alice"}}}}});
  f.load();
  const Principal alice{f.idp.issuer(), "alice"};
  EXPECT_EQ(f.snapshot->roles_of(alice, {"engineering"}).size(), 2u);
  EXPECT_EQ(f.snapshot->roles_of(alice, {}).size(), 1u);
  EXPECT_EQ(f.snapshot->roles_of({f.idp.issuer(), "bob"}, {"sales"}).size(), 0u);
}

TEST(TenantSnapshot, CountsWhatTheTemplatesHold) {
  Snapshots f;
  const auto before = f.snapshot->footprint();
  f.backend("github")["delivery"]["files"] = {
      {{"name", "big"}, {"content", std::string(16384, 'x')}}};
  f.load();
  EXPECT_GT(f.snapshot->footprint(), before + 16384);
}

// ---- a tenant whose key holder has a share ----

struct HeldSnapshots : Snapshots {
  static HeldShare share() { return HeldShare(SecureBuffer(32)); }
  void add_kek(unsigned version, bool held) {
    auto& keys = tenants.keys();
    const auto demand =
        held ? std::optional(vault::HeldShareDemand{vault::check_of(tenant, share())})
             : std::nullopt;
    keys.store.add(tenant, keys.keyring.create(tenant, KekVersion{version}, demand));
    keys.keyring.forget(tenant);
  }
};

TEST(TenantSnapshot, OfASealedTenantPublishesItsKeysAndSignsNothing) {
  HeldSnapshots f;
  f.add_kek(2, true);
  const auto sealed = f.rebuilt();
  EXPECT_EQ(code_of(sealed->check_unsealed()), ErrorCode::TenantSealed);
  EXPECT_FALSE(sealed->opens_soon());
  EXPECT_EQ(sealed->signer(crypto::Algorithm::ES256, f.clock.now()), nullptr);
  EXPECT_EQ(sealed->jwks_document(), f.snapshot->jwks_document());
  EXPECT_EQ(sealed->metadata_document(), f.snapshot->metadata_document());
  EXPECT_NE(sealed->find_client("gw-01"), nullptr);

  ASSERT_TRUE(f.tenants.keyring().unseal(f.tenant, HeldSnapshots::share()).ok());
  const auto open = f.rebuilt();
  EXPECT_TRUE(open->check_unsealed().ok());
  EXPECT_NE(open->signer(crypto::Algorithm::ES256, f.clock.now()), nullptr);
}

TEST(TenantSnapshot, OpensSoonWhenItsKeysAreBeingMovedFromUnderTheShare) {
  HeldSnapshots f;
  f.add_kek(2, true);
  ASSERT_TRUE(f.tenants.keyring().unseal(f.tenant, HeldSnapshots::share()).ok());
  f.stored().signing_keys = {
      f.tenants.new_signing_key(f.tenant, crypto::Algorithm::ES256, f.clock.now())};
  f.tenants.keyring().seal(f.tenant);
  f.add_kek(3, false);
  const auto moving = f.rebuilt();
  EXPECT_EQ(code_of(moving->check_unsealed()), ErrorCode::TenantSealed);
  EXPECT_TRUE(moving->opens_soon());
}

}  // namespace
}  // namespace postern::policy
