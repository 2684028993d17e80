// A tenant's KEK as stored: version, flags (1: demands a held share, 2: takes a share of the
// share store), length of the root key id, the id, the check and the share id as the flags
// say, and the wrapped KEK. Nothing opens but the rows that were sealed, and these do.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "crypto/base64url.h"
#include "support/in_memory_kek_store.h"
#include "support/in_memory_share_store.h"
#include "vault/keyring.h"

using namespace postern;

namespace {

void require(bool promise) {
  if (!promise) std::abort();
}

constexpr std::string_view kRootKey =
    "postern-root-key-v1:fc44247f4ccb290b:6tNNjHLR5pHpdjvJXas54nu2kUMwlnDT4YtzqhFiahE";
/// The rows of the corpus, as it has them.
constexpr std::string_view kSealed[] = {
    "AQAQZmM0NDI0N2Y0Y2NiMjkwYgHL1RY41M2jmrTQ0PktcCHEIQG94YXp2uadRbkyNzYn0b7K4N1UC5RUki7E"
    "Koywrmgde-9e01cXGXnVqxfxtMIApa39fIJ5Az9DkHsn5ocw6vbnDzlwXphJmbwgNW3RHdLxsjVuWQ4IXA",
    "AgEQZmM0NDI0N2Y0Y2NiMjkwYntLDfZ4tD386Q6mTpjIxdxMLhYtJgJrL94x4T3oeJqMAYxvCs6JUcXYSvS_"
    "T0pFu2KhUOZMO9DRFrjpB50oJCU5b2GwwvOaYpbqNNFzZM26TJs1zXuRBlty7hbqWZzztPWKABInUK7i79Tw"
    "8wbZ1HbfQ_IA7sV8SSOzpK_gYKDWHnlXRSsNyp3r",
    "AwIQZmM0NDI0N2Y0Y2NiMjkwYsb6e1F89Up5qQg6Ox31LHSYv3AqIXe2BcagKoYQ0CbBAXc_dim4QcyArY5g"
    "JS7nqf0kBgOtAq1LPRx3Xs1D4L1qQ2a5sf_4LLpeDRpMZdX7onwLmxj2Ef4w-6dZEAdwWaNB5LqjrcMZPGZV"
    "poh-G_e_plNg83BwG7TJ6L5NFwRGVVFoOIci8ZWG",
    "BAMQZmM0NDI0N2Y0Y2NiMjkwYntLDfZ4tD386Q6mTpjIxdxMLhYtJgJrL94x4T3oeJqMxvp7UXz1SnmpCDo7"
    "HfUsdJi_cCohd7YFxqAqhhDQJsEBVGwT4p6fkP83VzHb_TgGhE7xkLiiT64inUHEEFsASp1F5-7NXc5ErGxv"
    "fZUXoXsbmS9xxNzoq5JwgtWDFVh5HAmFI2f_AjxqekCQByJoIHdb8b_vJM9FUsaJHHFfSgYBrH1KermkhZY",
};

constexpr std::size_t kHashBytes = 32;

/// Every one of its bytes is this number.
template <class Share>
Share share_of(int number) {
  SecureBuffer bytes(kHashBytes);
  std::fill(bytes.writable().begin(), bytes.writable().end(), static_cast<std::byte>(number));
  return Share(std::move(bytes));
}

ByteView take(ByteView& from, std::size_t size) {
  const auto taken = from.first(std::min(size, from.size()));
  from = from.subspan(taken.size());
  return taken;
}

std::optional<vault::WrappedKek> row_in(ByteView input) {
  if (input.size() < 3) return std::nullopt;
  const auto head = take(input, 3);
  const auto flags = std::to_integer<unsigned>(head[1]);
  vault::WrappedKek row;
  row.version = KekVersion{std::to_integer<std::uint32_t>(head[0])};
  row.root_key_id = as_text(take(input, std::to_integer<std::size_t>(head[2])));
  const auto hash = [&](crypto::Hash256& out) {
    const auto bytes = take(input, out.size());
    std::copy(bytes.begin(), bytes.end(), out.begin());
  };
  if ((flags & 1) != 0) hash(row.held.emplace().check);
  if ((flags & 2) != 0) hash(row.share.emplace());
  row.wrapped.assign(input.begin(), input.end());
  return row;
}

bool same(const vault::WrappedKek& a, const vault::WrappedKek& b) {
  const auto check = [](const vault::WrappedKek& row) {
    return row.held ? std::optional(row.held->check) : std::nullopt;
  };
  return check(a) == check(b) && std::tie(a.version, a.root_key_id, a.wrapped, a.share) ==
                                     std::tie(b.version, b.root_key_id, b.wrapped, b.share);
}

struct World {
  World() {
    const auto share = share_of<vault::KeyShare>(2);
    require(shares.add(acme, vault::id_of(acme, share), share).ok());
    for (const auto text : kSealed) {
      const auto bytes = crypto::base64url_decode(text).value();
      sealed.push_back(row_in(bytes).value());
    }
  }

  const TenantId acme{"acme"};
  test::InMemoryKekStore store;
  test::InMemoryShareStore shares;
  vault::Keyring keyring{vault::RootKeys::parse(kRootKey).value(), store, &shares};
  std::vector<vault::WrappedKek> sealed;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static World world;
  const auto row = row_in({reinterpret_cast<const std::byte*>(data), size});
  if (!row) return 0;
  world.store.replace(world.acme, {*row});
  world.keyring.forget(world.acme);
  // Only a row that demands this share takes it.
  static_cast<void>(world.keyring.unseal(world.acme, share_of<HeldShare>(1)));
  const bool opens =
      world.keyring.with_current(world.acme, [](KekVersion, const Kek&) { return Status(); }).ok();
  const bool is_sealed = std::any_of(world.sealed.begin(), world.sealed.end(),
                                     [&](const auto& each) { return same(each, *row); });
  require(opens == is_sealed);
  require(world.keyring.current(world.acme).ok() == is_sealed);
  require(world.keyring.rewrap(world.acme, *row).ok() == is_sealed);
  return 0;
}
