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
  Result<vault::CredentialMetadata> put(const TenantId&, const vault::CredentialKey&,
                                        std::optional<std::uint32_t>, const Seal&,
                                        std::span<const audit::Event>) override {
    return dead();
  }
  Result<vault::SealedVersion> latest(const TenantId&, const vault::CredentialKey&) override {
    return dead();
  }
  Result<vault::CredentialMetadata> metadata(const TenantId&,
                                             const vault::CredentialKey&) override {
    return dead();
  }
  Result<Page> list(const TenantId&, const std::optional<Owner>&, std::string_view,
                    std::uint32_t) override {
    return dead();
  }
  Status remove(const TenantId&, const vault::CredentialKey&, std::optional<std::uint32_t>,
                std::span<const audit::Event>) override {
    return dead();
  }

 private:
  static Error dead() { return fail(ErrorCode::Unavailable, "database", "the store is gone"); }
};

}  // namespace postern::test
