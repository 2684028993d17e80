#include <sys/random.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "cli/commands.h"
#include "cli/output.h"
#include "postern/json.h"
#include "postern/secret_file.h"

namespace postern::cli {
namespace {

using sdk::Json;

/// 256 random bits in base64url: the last character holds four of them.
sdk::Result<sdk::SecretBytes> new_share() {
  constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::array<std::byte, 43> random;
  if (::getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) {
    return sdk::fail(sdk::ErrorKind::Usage, "the system gives no random bytes");
  }
  sdk::SecretBytes share;
  share.reserve(random.size() + 1);
  for (const auto byte : random) {
    const auto bits = static_cast<unsigned>(byte);
    share.push_back(kAlphabet[share.size() < 42 ? bits & 63U : (bits & 15U) << 2U]);
  }
  share.push_back('\n');
  wipe(random);
  return share;
}

/// The share in the file; a fresh one is put there first when there is no file.
sdk::Result<SecureBuffer> share_in(const std::string& file) {
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) {
    POSTERN_TRY(const auto made, new_share());
    POSTERN_CHECK(sdk::write_secret_file(file, sdk::view(made)));
    say_error("a fresh share is in " + printable(file) +
              "; keep copies of it: nobody can make it again, and nothing opens without it");
  }
  return sdk::read_token_file(file, "share");
}

int show(const Settings& settings, const sdk::Result<sdk::KeyHolder>& answer, const char* doing) {
  if (!answer.ok()) return report(answer.error(), doing);
  const auto& is = answer.value();
  const Json line{
      {"state", is.state}, {"kek_version", is.kek_version}, {"rows_left", is.rows_left}};
  auto text = printable(is.state) + ", KEK " + std::to_string(is.kek_version);
  if (is.rows_left > 0) text += ", " + std::to_string(is.rows_left) + " rows to move to it";
  const auto status =
      print(settings.json ? line.dump(-1, ' ', true, Json::error_handler_t::replace) + "\n"
                          : text + "\n");
  return status.ok() ? exit_code::kOk : report(status.error(), "");
}

/// @param ask  (client, tenant) -> Result<KeyHolder>
template <class Ask>
int with_client(const Settings& settings, const KeyHolderOptions& options, const char* doing,
                const Ask& ask) {
  const auto tenant = options.tenant.empty() ? tenant_of(settings) : tenant_named(options.tenant);
  if (!tenant.ok()) return report(tenant.error(), doing);
  auto client = admin_client(settings);
  if (!client.ok()) return report(client.error(), doing);
  return show(settings, ask(client.value(), tenant.value()), doing);
}

}  // namespace

int run_tenant_key_holder(const Settings& settings, const KeyHolderOptions& options) {
  return with_client(settings, options, "ask about the key holder",
                     [](auto& client, const auto& tenant) { return client.key_holder(tenant); });
}

int run_tenant_hold_key(const Settings& settings, const KeyHolderOptions& options) {
  return with_client(settings, options, "give the tenant's key a share to demand",
                     [&](auto& client, const auto& tenant) -> sdk::Result<sdk::KeyHolder> {
                       SecureBuffer present;
                       if (!options.present_share_file.empty()) {
                         POSTERN_TRY(present, sdk::read_token_file(options.present_share_file,
                                                                   "present share file"));
                       }
                       // In its file before it is demanded: a share that is lost is lost.
                       POSTERN_TRY(const auto share, share_in(options.share_file));
                       return client.hold_key(tenant, share, present);
                     });
}

int run_tenant_release_key(const Settings& settings, const KeyHolderOptions& options) {
  return with_client(settings, options, "release the tenant's key from its share",
                     [&](auto& client, const auto& tenant) -> sdk::Result<sdk::KeyHolder> {
                       POSTERN_TRY(const auto share,
                                   sdk::read_token_file(options.share_file, "share"));
                       return client.release_key(tenant, share);
                     });
}

int run_tenant_seal(const Settings& settings, const KeyHolderOptions& options) {
  return with_client(settings, options, "seal the tenant",
                     [](auto& client, const auto& tenant) { return client.seal_tenant(tenant); });
}

int run_tenant_unseal(const Settings& settings, const KeyHolderOptions& options) {
  bool sealed = false;
  const int code = with_client(
      settings, options, "unseal the tenant",
      [&](auto& client, const auto& tenant) -> sdk::Result<sdk::KeyHolder> {
        POSTERN_TRY(const auto share, sdk::read_token_file(options.share_file, "share"));
        auto answer = client.unseal_tenant(tenant, share);
        sealed = answer.ok() && answer.value().state != "unsealed";
        return answer;
      });
  if (!sealed) return code;
  say_error("the tenant is still sealed: this share is that of before; send the present one too");
  return exit_code::kRefused;
}

}  // namespace postern::cli
