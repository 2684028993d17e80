#include <algorithm>

#include "core/time_format.h"
#include "crypto/base64url.h"
#include "crypto/random.h"
#include "http/handlers/vault_api.h"

/// `transit` of the Vault subset: clients use keys by name, as `vault_api.transit` of
/// the tenant says who may do what with which; admins manage them and use none.
namespace postern::http {
namespace {

using token::Json;
using Kind = Caller::Kind;
using policy::TransitOperation;
using vault::OpenTransitKey;

constexpr std::size_t kMostItems = 250;  ///< of a batch

Error malformed(std::string detail) { return fail(ErrorCode::MalformedRequest, std::move(detail)); }

/// The tenant's settings. Errors: NotFound where there is no transit.
Result<const policy::Transit*> transit_of(const VaultCall& call) {
  const auto& transit = call.snapshot.settings().vault()->transit;
  if (!transit) return fail(ErrorCode::NotFound, "no such mount");
  return &*transit;
}

/// The key that the path names, also in the record. Errors: NotFound, MalformedRequest.
Result<vault::TransitName> name_of(const VaultCall& call) {
  POSTERN_CHECK(transit_of(call));
  auto name = vault::TransitName::parse(call.parameters.at(0));
  if (!name.ok()) return malformed("the name of a key is letters, digits, dots, _ and -");
  call.record.with("key", name.value().str());
  return name;
}

/// Whether the client may do anything at all with the key, or that.
bool may(const VaultCall& call, std::string_view key,
         std::optional<TransitOperation> operation = std::nullopt) {
  const auto transit = transit_of(call);
  return transit.ok() && transit.value()->allows(call.caller.session.client, key, operation);
}

// ---- members of a body ----

bool has(const Json& body, const char* name) {
  const auto it = body.find(name);
  return it != body.end() && !it->is_null();
}

/// Bytes in base64; nothing when they are not there.
Result<std::optional<SecureBuffer>> bytes_of(const Json& body, const char* name) {
  const auto it = body.find(name);
  if (it == body.end() || it->is_null()) return std::optional<SecureBuffer>();
  const auto bytes = it->is_string() ? crypto::base64_decode(it->get_ref<const std::string&>())
                                     : Result<Bytes>(malformed(""));
  if (!bytes.ok()) return malformed(std::string(name) + " must be base64");
  return std::optional(SecureBuffer::copy_of(bytes.value()));
}
Result<SecureBuffer> required_bytes(const Json& body, const char* name) {
  POSTERN_TRY(auto bytes, bytes_of(body, name));
  if (!bytes) return malformed(std::string("missing ") + name);
  return std::move(*bytes);
}
Result<SecureBuffer> optional_bytes(const Json& body, const char* name) {
  POSTERN_TRY(auto bytes, bytes_of(body, name));
  return bytes ? std::move(*bytes) : SecureBuffer();
}

/// Text, or `otherwise`.
Result<std::string> text_of(const Json& body, const char* name, const char* otherwise) {
  const auto it = body.find(name);
  if (it == body.end() || it->is_null()) return std::string(otherwise);
  if (!it->is_string()) return malformed(std::string(name) + " must be text");
  return it->get<std::string>();
}

/// A switch, as JSON or, as Vault's own command sends it, as text.
Result<std::optional<bool>> flag_of(const Json& body, const char* name) {
  const auto it = body.find(name);
  if (it == body.end() || it->is_null()) return std::optional<bool>();
  if (it->is_boolean()) return std::optional(it->get<bool>());
  if (*it == "true") return std::optional(true);
  if (*it == "false") return std::optional(false);
  return malformed(std::string(name) + " must be true or false");
}

/// Refuses what is not offered, unless it is off: 0, or nothing.
Status refuse_amounts(const Json& body, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const auto it = body.find(name);
    if (it == body.end() || it->is_null() || *it == 0 || *it == "0" || *it == "0s" || *it == "") {
      continue;
    }
    return malformed(std::string(name) + " is not offered");
  }
  return {};
}

/// Refuses what is not offered, unless it is off.
Status refuse_flags(const Json& body, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    POSTERN_TRY(const auto on, flag_of(body, name));
    if (on.value_or(false)) return malformed(std::string(name) + " is not offered");
  }
  return {};
}

Result<std::optional<std::uint32_t>> version_of(const Json& body, const char* name) {
  const auto it = body.find(name);
  if (it == body.end() || it->is_null()) return std::optional<std::uint32_t>();
  const auto number = vault_number(*it);
  if (!number) return malformed(std::string(name) + " must be the number of a version");
  return number;
}

Result<vault::TransitText> transit_text(const Json& body, const char* name,
                                        vault::Marshaling marshaling = vault::Marshaling::Asn1) {
  POSTERN_TRY(const auto text, text_of(body, name, ""));
  if (text.empty()) return malformed(std::string("missing ") + name);
  return vault::TransitText::parse(text, marshaling);
}

std::string base64_of(const Plaintext& bytes) {
  return bytes.expose([](ByteView view) { return crypto::base64(view); });
}

Json versioned(const char* name, const vault::TransitText& made,
               vault::Marshaling marshaling = vault::Marshaling::Asn1) {
  return {{name, made.str(marshaling)}, {"key_version", made.version}};
}

// ---- operations ----

struct Sealing {
  SecureBuffer context, aad;
  static Result<Sealing> of(const Json& item) {
    POSTERN_CHECK(refuse_flags(item, {"convergent_encryption"}));
    if (item.contains("nonce") && !item["nonce"].is_null() && item["nonce"] != "") {
      return malformed("a nonce is made here, never given");
    }
    POSTERN_TRY(auto context, optional_bytes(item, "context"));
    POSTERN_TRY(auto aad, optional_bytes(item, "associated_data"));
    return Sealing{std::move(context), std::move(aad)};
  }
};

Result<Json> encrypt(OpenTransitKey& key, const Json& item, const VaultCall&) {
  POSTERN_TRY(const auto how, Sealing::of(item));
  POSTERN_TRY(const auto plaintext, required_bytes(item, "plaintext"));
  POSTERN_TRY(const auto version, version_of(item, "key_version"));
  POSTERN_TRY(const auto made, key.encrypt(plaintext.readable(), how.context.readable(),
                                           how.aad.readable(), version.value_or(0)));
  return versioned("ciphertext", made);
}

Result<Json> decrypt(OpenTransitKey& key, const Json& item, const VaultCall&) {
  POSTERN_TRY(const auto how, Sealing::of(item));
  POSTERN_TRY(const auto ciphertext, transit_text(item, "ciphertext"));
  POSTERN_TRY(const auto plaintext,
              key.decrypt(ciphertext, how.context.readable(), how.aad.readable()));
  return Json{{"plaintext", base64_of(plaintext)}};
}

Result<Json> rewrap(OpenTransitKey& key, const Json& item, const VaultCall&) {
  POSTERN_TRY(const auto how, Sealing::of(item));
  POSTERN_TRY(const auto ciphertext, transit_text(item, "ciphertext"));
  POSTERN_TRY(const auto version, version_of(item, "key_version"));
  POSTERN_TRY(const auto plaintext,
              key.decrypt(ciphertext, how.context.readable(), how.aad.readable()));
  auto made = plaintext.expose([&](ByteView bytes) {
    return key.encrypt(bytes, how.context.readable(), how.aad.readable(), version.value_or(0));
  });
  POSTERN_TRY(const auto again, std::move(made));
  return versioned("ciphertext", again);
}

/// `sha2-256` and the like, of the path or the body: `hash_algorithm`, which was
/// `algorithm` before, and still is where MACs are made.
Result<crypto::HashFunction> hash_of(const Json& item, const VaultCall& call) {
  POSTERN_TRY(const auto before, text_of(item, "algorithm", "sha2-256"));
  POSTERN_TRY(auto name, text_of(item, "hash_algorithm", before.c_str()));
  if (call.parameters.size() > 1) name = call.parameters[1];
  if (name == "sha2-256") return crypto::HashFunction::Sha256;
  if (name == "sha2-384") return crypto::HashFunction::Sha384;
  if (name == "sha2-512") return crypto::HashFunction::Sha512;
  return malformed("the algorithm is sha2-256, sha2-384 or sha2-512");
}

/// How signatures are made. Ed25519 hashes by itself, P-256 with SHA-256.
Result<vault::Marshaling> marshaling_of(const OpenTransitKey& key, const Json& item,
                                        const VaultCall& call) {
  POSTERN_CHECK(refuse_flags(item, {"prehashed"}));
  POSTERN_TRY(const auto hash, hash_of(item, call));
  if (key.key().type == vault::TransitType::EcdsaP256 && hash != crypto::HashFunction::Sha256) {
    return malformed("keys of this type sign with sha2-256");
  }
  POSTERN_TRY(const auto name, text_of(item, "marshaling_algorithm", "asn1"));
  if (name == "asn1") return vault::Marshaling::Asn1;
  if (name == "jws") return vault::Marshaling::Jws;
  return malformed("marshaling_algorithm is asn1 or jws");
}

Result<Json> sign(OpenTransitKey& key, const Json& item, const VaultCall& call) {
  POSTERN_TRY(const auto marshaling, marshaling_of(key, item, call));
  POSTERN_TRY(const auto input, required_bytes(item, "input"));
  POSTERN_TRY(const auto version, version_of(item, "key_version"));
  POSTERN_TRY(const auto made, key.sign(input.readable(), marshaling, version.value_or(0)));
  return versioned("signature", made, marshaling);
}

Result<Json> hmac(OpenTransitKey& key, const Json& item, const VaultCall& call) {
  POSTERN_TRY(const auto hash, hash_of(item, call));
  POSTERN_TRY(const auto input, required_bytes(item, "input"));
  POSTERN_TRY(const auto version, version_of(item, "key_version"));
  POSTERN_TRY(const auto made, key.hmac(input.readable(), hash, version.value_or(0)));
  return Json{{"hmac", made.str()}};
}

Result<Json> verify(OpenTransitKey& key, const Json& item, const VaultCall& call) {
  POSTERN_TRY(const auto input, required_bytes(item, "input"));
  if (has(item, "hmac")) {
    if (has(item, "signature")) return malformed("send a signature or an hmac, not both");
    POSTERN_TRY(const auto mac, transit_text(item, "hmac"));
    POSTERN_TRY(const auto hash, hash_of(item, call));
    POSTERN_TRY(const bool valid, key.verify_hmac(input.readable(), mac, hash));
    return Json{{"valid", valid}};
  }
  POSTERN_TRY(const auto marshaling, marshaling_of(key, item, call));
  POSTERN_TRY(const auto signature, transit_text(item, "signature", marshaling));
  POSTERN_TRY(const bool valid, key.verify(input.readable(), signature, marshaling));
  return Json{{"valid", valid}};
}

enum class DataKeyShown { No, Yes };
template <DataKeyShown shown>
Result<Json> data_key(OpenTransitKey& key, const Json& item, const VaultCall&) {
  POSTERN_TRY(const auto how, Sealing::of(item));
  POSTERN_TRY(const auto asked, version_of(item, "bits"));
  const auto bits = asked.value_or(256);
  if (bits != 128 && bits != 256 && bits != 512) return malformed("bits is 128, 256 or 512");
  SecureBuffer fresh(bits / 8);
  crypto::random_bytes(fresh.writable());
  POSTERN_TRY(const auto made,
              key.encrypt(fresh.readable(), how.context.readable(), how.aad.readable()));
  auto json = versioned("ciphertext", made);
  if (shown == DataKeyShown::Yes) json["plaintext"] = crypto::base64(fresh.readable());
  return json;
}

using Operation = Result<Json> (*)(OpenTransitKey& key, const Json& item, const VaultCall& call);

/// Where Vault has what is said of a batch, and how it answers a part that is refused.
enum class BatchForm {
  EachItem,  ///< all of it in each item; 400
  Beside,    ///< but for input, signature and MAC beside the items; 200
};
constexpr BatchForm form_of(TransitOperation operation) {
  using enum TransitOperation;
  return operation == Sign || operation == Verify || operation == Hmac ? BatchForm::Beside
                                                                       : BatchForm::EachItem;
}

/// What stands beside the items is said of each that does not say it itself.
void spread(const Json& body, Json& item) {
  const bool has_hash = has(item, "hash_algorithm") || has(item, "algorithm");
  for (const char* name : {"hash_algorithm", "algorithm"}) {
    if (has(body, name) && !has_hash) item[name] = body[name];
  }
  for (const char* name : {"key_version", "marshaling_algorithm", "prehashed"}) {
    if (has(body, name) && !has(item, name)) item[name] = body[name];
  }
}

/// Each item by itself. What one is refused for stands in its place; what is ours to
/// fail ends all of it.
Result<Done> batch(const VaultCall& call, OpenTransitKey& key, Json& body, Operation run,
                   BatchForm form) {
  auto& items = body["batch_input"];
  if (!items.is_array() || items.empty()) return malformed("batch_input must be a list of items");
  if (items.size() > kMostItems) return malformed("batch_input has at most 250 items");
  call.record.with("items", std::to_string(items.size()));
  Json results = Json::array();
  std::size_t refusals = 0;
  for (auto& item : items) {
    if (item.is_object() && form == BatchForm::Beside) spread(body, item);
    auto result =
        item.is_object() ? run(key, item, call) : Result<Json>(malformed("an item is an object"));
    if (!result.ok() && result.error().code != ErrorCode::MalformedRequest) {
      wipe_texts(results);
      return result.error();
    }
    results.push_back(result.ok() ? std::move(result).value()
                                  : Json{{"error", result.error().detail}});
    if (item.is_object() && has(item, "reference")) {
      results.back()["reference"] = item["reference"];
    }
    if (!result.ok()) ++refusals;
  }
  if (refusals > 0) {
    call.record.with("refused_items", std::to_string(refusals));
    if (refusals == items.size()) {
      record_error(call.record, malformed("no item of the batch was taken"));
    }
  }
  const int status = refusals > 0 && form == BatchForm::EachItem ? 400 : 200;
  return Done{vault_reply(call.request, {{"batch_results", std::move(results)}}, status),
              Done::Recorded::ByGate};
}

template <TransitOperation operation, Operation run>
Result<Done> use(const VaultCall& call) {
  POSTERN_TRY(const auto name, name_of(call));
  POSTERN_CHECK(Query::none(call.request));
  if (!may(call, name.str(), operation)) {
    return fail(ErrorCode::Forbidden, "this client may not do that with this key");
  }
  POSTERN_TRY(auto body, optional_vault_json(call.request));
  auto opened = call.services.transit->open(call.tenant(), name);
  if (!opened.ok() && opened.error().code == ErrorCode::NotFound) {
    return malformed("encryption key not found");  // Vault's words, for all of these
  }
  if (!opened.ok()) return opened.error();
  auto& key = opened.value();
  const auto done = [&]() -> Result<Done> {
    if (has(body, "batch_input")) return batch(call, key, body, run, form_of(operation));
    POSTERN_TRY(auto data, run(key, body, call));
    if (data.contains("key_version")) {
      call.record.with("key_version", std::to_string(data["key_version"].get<std::uint32_t>()));
    }
    return Done{vault_reply(call.request, std::move(data)), Done::Recorded::ByGate};
  };
  auto answer = done();
  wipe_texts(body);
  return answer;
}

// ---- keys ----

Result<Json> key_json(const VaultCall& call, OpenTransitKey& opened) {
  const auto& key = opened.key();
  const bool cipher = vault::encrypts(key.type);
  POSTERN_TRY(const auto versions, call.services.transit->versions(call.tenant(), key));
  Json keys = Json::object();
  for (const auto& version : versions) {
    if (version.version < key.min_decryption_version) continue;
    auto& shown = keys[std::to_string(version.version)];
    if (cipher) {
      shown = version.created_at.time_since_epoch().count();
      continue;
    }
    POSTERN_TRY(auto text, opened.public_key(version));
    shown = {{"name", key.type == vault::TransitType::Ed25519 ? "ed25519" : "P-256"},
             {"public_key", std::move(text)},
             {"creation_time", format_time(version.created_at)}};
  }
  return Json{{"name", key.name.str()},
              {"type", vault::to_string(key.type)},
              {"derived", key.derived},
              {"deletion_allowed", key.deletion_allowed},
              {"exportable", false},
              {"allow_plaintext_backup", false},
              {"imported_key", false},
              {"auto_rotate_period", 0},
              {"latest_version", key.latest_version},
              {"min_available_version", 0},
              {"min_decryption_version", key.min_decryption_version},
              {"min_encryption_version", key.min_encryption_version},
              {"supports_encryption", cipher},
              {"supports_decryption", cipher},
              {"supports_derivation", cipher},
              {"supports_signing", !cipher},
              {"keys", std::move(keys)}};
}

/// What there is of the key by now. @param recorded  where its record went.
Result<Done> show(const VaultCall& call, const vault::TransitName& name, Done::Recorded recorded) {
  POSTERN_TRY(auto opened, call.services.transit->open(call.tenant(), name));
  POSTERN_TRY(auto json, key_json(call, opened));
  return Done{vault_reply(call.request, std::move(json)), recorded};
}

Result<Done> read_key(const VaultCall& call) {
  POSTERN_TRY(const auto name, name_of(call));
  POSTERN_CHECK(Query::none(call.request));
  if (call.caller.kind == Kind::Client && !may(call, name.str())) {
    return fail(ErrorCode::Forbidden, "this client may do nothing with this key");
  }
  return show(call, name, Done::Recorded::ByGate);
}

Result<Done> list_keys(const VaultCall& call) {
  POSTERN_CHECK(transit_of(call));
  POSTERN_TRY(const auto query, Query::parse(call.request.query, {"list"}));
  POSTERN_TRY(const bool listed, query.flag("list"));
  if (call.request.method == "GET" && !listed) return fail(ErrorCode::NotFound, "");
  POSTERN_TRY(auto names, call.services.transit->names(call.tenant()));
  if (call.caller.kind == Kind::Client) {
    names.erase(std::remove_if(names.begin(), names.end(),
                               [&](const auto& name) { return !may(call, name); }),
                names.end());
  }
  if (names.empty()) return fail(ErrorCode::NotFound, "no keys");
  return Done{vault_reply(call.request, {{"keys", names}}), Done::Recorded::ByGate};
}

Result<Done> create_key(const VaultCall& call) {
  POSTERN_TRY(const auto name, name_of(call));
  POSTERN_CHECK(Query::none(call.request));
  POSTERN_TRY(const auto body, optional_vault_json(call.request));
  POSTERN_CHECK(
      refuse_flags(body, {"exportable", "allow_plaintext_backup", "convergent_encryption"}));
  POSTERN_CHECK(refuse_amounts(body, {"auto_rotate_period", "key_size"}));
  POSTERN_TRY(const auto type_name, text_of(body, "type", "aes256-gcm96"));
  const auto type = vault::parse_transit_type(type_name);
  if (!type) {
    return malformed("type is aes256-gcm96, chacha20-poly1305, ed25519 or ecdsa-p256");
  }
  POSTERN_TRY(const auto derived, flag_of(body, "derived"));
  vault::TransitKey key;
  key.name = name;
  key.type = *type;
  key.derived = derived.value_or(false);
  call.record.with("type", type_name);
  const auto created = call.services.transit->create(call.tenant(), std::move(key), call.record);
  if (!created.ok() && created.error().code == ErrorCode::Conflict) {
    // As Vault has it: what is there stays as it is.
    record_error(call.record, created.error());
    return show(call, name, Done::Recorded::ByGate);
  }
  POSTERN_CHECK(created);
  return show(call, name, Done::Recorded::InStore);
}

Result<Done> rotate_key(const VaultCall& call) {
  POSTERN_TRY(const auto name, name_of(call));
  POSTERN_CHECK(Query::none(call.request));
  POSTERN_CHECK(call.services.transit->rotate(call.tenant(), name, call.record));
  return show(call, name, Done::Recorded::InStore);
}

Result<Done> configure_key(const VaultCall& call) {
  POSTERN_TRY(const auto name, name_of(call));
  POSTERN_CHECK(Query::none(call.request));
  POSTERN_TRY(const auto body, optional_vault_json(call.request));
  POSTERN_CHECK(refuse_flags(body, {"exportable", "allow_plaintext_backup"}));
  POSTERN_CHECK(refuse_amounts(body, {"auto_rotate_period", "min_available_version"}));
  vault::Transit::Settings settings;
  POSTERN_TRY(settings.min_decryption_version, version_of(body, "min_decryption_version"));
  POSTERN_TRY(settings.min_encryption_version, version_of(body, "min_encryption_version"));
  POSTERN_TRY(settings.deletion_allowed, flag_of(body, "deletion_allowed"));
  POSTERN_CHECK(call.services.transit->configure(call.tenant(), name, settings, call.record));
  return show(call, name, Done::Recorded::InStore);
}

Result<Done> remove_key(const VaultCall& call) {
  POSTERN_TRY(const auto name, name_of(call));
  POSTERN_CHECK(Query::none(call.request));
  POSTERN_CHECK(call.services.transit->remove(call.tenant(), name, call.record));
  return Done{Reply(204), Done::Recorded::InStore};
}

}  // namespace

void add_vault_transit_endpoints(Router& router, Gate& gate, Services& services) {
  const auto add = [&](const char* method, const char* pattern, const char* action,
                       std::vector<Kind> allowed, Result<Done> (*run)(const VaultCall&),
                       Wraps wraps = Wraps::Never) {
    add_vault_route(router, gate, services,
                    {method, pattern, action, std::move(allowed), run, wraps});
  };
  const std::vector admins{Kind::Operator, Kind::TenantAdmin};
  const std::vector readers{Kind::Operator, Kind::TenantAdmin, Kind::Client};
  constexpr auto kKey = "transit/keys/{}";
  add("GET", kKey, "transit.key_read", readers, read_key);
  add("POST", kKey, "transit.key_create", admins, create_key);
  add("PUT", kKey, "transit.key_create", admins, create_key);
  add("DELETE", kKey, "transit.key_delete", admins, remove_key);
  constexpr auto kKeys = "transit/keys";
  add("GET", kKeys, "transit.key_list", readers, list_keys);
  add("LIST", kKeys, "transit.key_list", readers, list_keys);
  constexpr auto kRotate = "transit/keys/{}/rotate";
  add("POST", kRotate, "transit.key_rotate", admins, rotate_key);
  add("PUT", kRotate, "transit.key_rotate", admins, rotate_key);
  constexpr auto kConfigure = "transit/keys/{}/config";
  add("POST", kConfigure, "transit.key_configure", admins, configure_key);
  add("PUT", kConfigure, "transit.key_configure", admins, configure_key);

  const std::vector clients{Kind::Client};
  const auto add_use = [&](const char* method, const char* pattern, const char* action,
                           Result<Done> (*run)(const VaultCall&), Wraps wraps = Wraps::Never) {
    add(method, pattern, action, clients, run, wraps);
  };
  constexpr auto kEncrypt = "transit/encrypt/{}";
  constexpr auto encrypt_with = use<TransitOperation::Encrypt, encrypt>;
  add_use("POST", kEncrypt, "transit.encrypt", encrypt_with);
  add_use("PUT", kEncrypt, "transit.encrypt", encrypt_with);
  constexpr auto kDecrypt = "transit/decrypt/{}";
  constexpr auto decrypt_with = use<TransitOperation::Decrypt, decrypt>;
  add_use("POST", kDecrypt, "transit.decrypt", decrypt_with, Wraps::Allowed);
  add_use("PUT", kDecrypt, "transit.decrypt", decrypt_with, Wraps::Allowed);
  constexpr auto kRewrap = "transit/rewrap/{}";
  constexpr auto rewrap_with = use<TransitOperation::Rewrap, rewrap>;
  add_use("POST", kRewrap, "transit.rewrap", rewrap_with);
  add_use("PUT", kRewrap, "transit.rewrap", rewrap_with);
  constexpr auto sign_with = use<TransitOperation::Sign, sign>;
  constexpr auto kSign = "transit/sign/{}";
  add_use("POST", kSign, "transit.sign", sign_with);
  add_use("PUT", kSign, "transit.sign", sign_with);
  constexpr auto kSignHash = "transit/sign/{}/{}";
  add_use("POST", kSignHash, "transit.sign", sign_with);
  add_use("PUT", kSignHash, "transit.sign", sign_with);
  constexpr auto verify_with = use<TransitOperation::Verify, verify>;
  constexpr auto kVerify = "transit/verify/{}";
  add_use("POST", kVerify, "transit.verify", verify_with);
  add_use("PUT", kVerify, "transit.verify", verify_with);
  constexpr auto kVerifyHash = "transit/verify/{}/{}";
  add_use("POST", kVerifyHash, "transit.verify", verify_with);
  add_use("PUT", kVerifyHash, "transit.verify", verify_with);
  constexpr auto hmac_with = use<TransitOperation::Hmac, hmac>;
  constexpr auto kHmac = "transit/hmac/{}";
  add_use("POST", kHmac, "transit.hmac", hmac_with);
  add_use("PUT", kHmac, "transit.hmac", hmac_with);
  constexpr auto kHmacHash = "transit/hmac/{}/{}";
  add_use("POST", kHmacHash, "transit.hmac", hmac_with);
  add_use("PUT", kHmacHash, "transit.hmac", hmac_with);
  constexpr auto kDataKeyShown = "transit/datakey/plaintext/{}";
  constexpr auto shown_with = use<TransitOperation::DataKey, data_key<DataKeyShown::Yes>>;
  add_use("POST", kDataKeyShown, "transit.datakey", shown_with, Wraps::Allowed);
  add_use("PUT", kDataKeyShown, "transit.datakey", shown_with, Wraps::Allowed);
  constexpr auto kDataKeyWrapped = "transit/datakey/wrapped/{}";
  constexpr auto wrapped_with = use<TransitOperation::DataKey, data_key<DataKeyShown::No>>;
  add_use("POST", kDataKeyWrapped, "transit.datakey", wrapped_with);
  add_use("PUT", kDataKeyWrapped, "transit.datakey", wrapped_with);
}

}  // namespace postern::http
