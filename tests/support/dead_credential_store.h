#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "core/result.h"
#include "vault/credential.h"

namespace postern::test {

/// A store that cannot be reached.
class DeadCredentialStore final : public vault::CredentialStore {
 public:
  using Key = vault::CredentialKey;
  using Events = std::span<const audit::Event>;
  using Metadata = vault::CredentialMetadata;
  using MaybeExpected = std::optional<vault::Expected>;
  Result<Metadata> put(const TenantId&, const Key&, MaybeExpected, const Seal&, const Edit&,
                       Events) override {
    return dead();
  }
  Result<vault::SealedVersion> latest(const TenantId&, const Key&) override { return dead(); }
  Result<vault::SealedVersion> version(const TenantId&, const Key&, std::uint32_t) override {
    return dead();
  }
  Result<Metadata> metadata(const TenantId&, const Key&) override { return dead(); }
  Result<History> history(const TenantId&, const Key&) override { return dead(); }
  Result<Metadata> describe(const TenantId&, const Key&, MaybeExpected, const Edit&,
                            Events) override {
    return dead();
  }
  Result<Metadata> change_versions(const TenantId&, const Key&, std::span<const std::uint32_t>,
                                   VersionChange, MaybeExpected, sys_seconds, Events) override {
    return dead();
  }
  Result<Page> list(const TenantId&, const Filter&, std::string_view, std::uint32_t) override {
    return dead();
  }
  Status remove(const TenantId&, const Key&, MaybeExpected, Events) override { return dead(); }
  Status note_uses(const TenantId&, std::span<const Use>) override { return dead(); }

 private:
  static Error dead() { return fail(ErrorCode::Unavailable, "database", "the store is gone"); }
};

}  // namespace postern::test
