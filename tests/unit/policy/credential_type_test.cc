#include "policy/credential_type.h"

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "support/code_of.h"
#include "token/json.h"

namespace postern::policy {
namespace {

using test::code_of;
using token::Json;
using Texts = std::map<std::string, std::string>;

// Made with `openssl genpkey -algorithm ed25519`, and for these tests only.
constexpr const char* kPem = R"(-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEILCVk+pit3A5vU0sTW/rR6JfGbSSYk3B8OpZYmilxhGM
-----END PRIVATE KEY-----
)";
// openssl genpkey -algorithm ed25519 -aes-256-cbc -pass pass:test
constexpr const char* kEncryptedPem = R"(-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAh7w1i7daDgBAICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEFV+BnGvKWasNfZZNr0nR/kEQEP2
thRuzjaSdU9347crgxlPEsMbPbLBE7zPUNrc/Gu2UjdtLSb1oDWD8mxFGArvJ1aB
pJf7PuAyTsg+iBCSk34=
-----END ENCRYPTED PRIVATE KEY-----
)";
// openssl genrsa -traditional -aes128 with the same pass; only its frame is looked at.
constexpr const char* kOldEncryptedPem = R"(-----BEGIN RSA PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF

AAECAwQFBgcICQoLDA0ODw==
-----END RSA PRIVATE KEY-----
)";
// ssh-keygen -t ed25519 -N '', and with -N test.
constexpr const char* kSsh = R"(-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW
QyNTUxOQAAACDkyVQPSsvNMNm9HS1TZ1GHwjxC0q0OMU3iIFVM1+PRtQAAAIiNGjcxjRo3
MQAAAAtzc2gtZWQyNTUxOQAAACDkyVQPSsvNMNm9HS1TZ1GHwjxC0q0OMU3iIFVM1+PRtQ
AAAEDwiaHf2IE4CvmYEVN2/9m36Zf4ewAL/zTMNhstKbTiN+TJVA9Ky80w2b0dLVNnUYfC
PELSrQ4xTeIgVUzX49G1AAAAAAECAwQF
-----END OPENSSH PRIVATE KEY-----
)";
constexpr const char* kEncryptedSsh = R"(-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABAUR567af
d1w92ZalzksE7/AAAAEAAAAAEAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIOHGhgsINxp+9Ytv
Tqx7su7t/0PjcI6l+2wv7IFPjyw1AAAAkGktRcw6cZP33KU9ijC3o/rgQiZTevTmYDCTLz
VDv7TLRrYytqCGEa21ERBZ9lj2JhK5Ucp9wpccYXp1cUowiptQriAXb4DfcN2/o7Vnanec
bYmQMrx88xEsFAW3UjHY1cUCJjrWobxfib4qjcMkAu8b2/qKAloOSw4NV21j1IHq1Dn/QO
f9iQ7k7XGmM89l0A==
-----END OPENSSH PRIVATE KEY-----
)";
constexpr const char* kCertificate = R"(-----BEGIN CERTIFICATE-----
MIIBMjCB5aADAgECAhRilF4PWCsgCUglqLmm9Jm8q+Ws1jAFBgMrZXAwDzENMAsG
A1UEAwwEdGVzdDAeFw0yNjExMjExNjU1MTJaFw0zNjExMTgxNjU1MTJaMA8xDTAL
BgNVBAMMBHRlc3QwKjAFBgMrZXADIQBu1WLGXM1ATWd9z8x6gxs5x61xl5SeQpN7
ByoHmBqCsKNTMFEwHQYDVR0OBBYEFKxOkcOQ7aSXY2XwJyJ8wDldG0A2MB8GA1Ud
IwQYMBaAFKxOkcOQ7aSXY2XwJyJ8wDldG0A2MA8GA1UdEwEB/wQFMAMBAf8wBQYD
K2VwA0EAaM/Bz4yBj+SyWL8G1ILWiqPLXPfpuvxnCpLe9BjcqIBcWLA9yhI6Bqby
XeI7ug0Y2TS/ILkmp9v9ncGZoxmTDg==
-----END CERTIFICATE-----
)";

vault::Fields fields_of(const Texts& texts) {
  vault::Fields fields;
  for (const auto& [name, text] : texts) {
    fields.emplace(name, FieldValue(SecureBuffer::copy_of(text)));
  }
  return fields;
}

/// The pointer of the refusal; nothing when the fields are taken.
std::optional<std::string> refused_at(const std::string& type, const Texts& texts) {
  const auto status = check_fields(type, fields_of(texts));
  if (status.ok()) return std::nullopt;
  EXPECT_EQ(status.error().code, ErrorCode::MalformedRequest);
  for (const auto& [name, text] : texts) {
    // Our words name formats, never what was sent.
    if (text.size() > 3) {
      EXPECT_EQ(status.error().detail.find(text), std::string::npos);
    }
  }
  EXPECT_EQ(status.error().diagnostic, "");
  return status.error().pointer;
}
constexpr auto kTaken = std::nullopt;

TEST(CredentialType, AreTheDocumentedOnes) {
  EXPECT_EQ(credential_types(),
            "generic, api_key, basic, oauth, pem_key, ssh_key, kubeconfig, service_account, "
            "database_url");
  for (const char* name : {"", "Generic", "generic ", "api-key", "password"}) {
    EXPECT_FALSE(is_credential_type(name)) << name;
  }
  EXPECT_EQ(code_of(check_fields("of-a-later-release", fields_of({{"a", "b"}}))),
            ErrorCode::Conflict);
}

TEST(CredentialType, GenericTakesAnything) {
  EXPECT_EQ(refused_at("generic", {{"any", "\x01 value"}, {"other", "x"}}), kTaken);
}

TEST(CredentialType, ApiKeyIsOneWord) {
  EXPECT_EQ(refused_at("api_key", {{"api_key", "sk-123"}}), kTaken);
  EXPECT_EQ(refused_at("api_key", {{"api_key", "sk-123"}, {"username", "me"}}), kTaken);
  for (const char* key : {"two words", "line\n", "tab\t", "\x7f"}) {
    EXPECT_EQ(refused_at("api_key", {{"api_key", key}}), "/fields/api_key") << key;
  }
  EXPECT_EQ(refused_at("api_key", {{"username", "me"}}), "/fields/api_key");
  EXPECT_EQ(refused_at("api_key", {{"api_key", "k"}, {"apikey", "k"}}), "/fields");
}

TEST(CredentialType, BasicHasBothHalvesAndNoColonInTheFirst) {
  EXPECT_EQ(refused_at("basic", {{"username", "al ice"}, {"password", "p:w d"}}), kTaken);
  EXPECT_EQ(refused_at("basic", {{"username", "a:b"}, {"password", "p"}}), "/fields/username");
  EXPECT_EQ(refused_at("basic", {{"username", "a"}, {"password", "p\nq"}}), "/fields/password");
  EXPECT_EQ(refused_at("basic", {{"username", "a"}}), "/fields/password");
  EXPECT_EQ(refused_at("basic", {{"password", "p"}}), "/fields/username");
}

TEST(CredentialType, OauthHasAToken) {
  EXPECT_EQ(refused_at("oauth", {{"access_token", "t"}}), kTaken);
  EXPECT_EQ(refused_at("oauth", {{"refresh_token", "r"},
                                 {"client_id", "c"},
                                 {"client_secret", "s"},
                                 {"scope", "a b"},
                                 {"token_type", "Bearer"},
                                 {"id_token", "e30.e30."},
                                 {"token_endpoint", "https://idp.example/token"}}),
            kTaken);
  EXPECT_EQ(refused_at("oauth", {{"client_id", "c"}}), "/fields");
  EXPECT_EQ(refused_at("oauth", {{"access_token", "a b"}}), "/fields/access_token");
  for (const char* url : {"http://idp.example/", "https://", "https:///token", "idp.example"}) {
    EXPECT_EQ(refused_at("oauth", {{"access_token", "t"}, {"token_endpoint", url}}),
              "/fields/token_endpoint");
  }
}

TEST(CredentialType, PemKeyIsReadByOpenssl) {
  const std::string pem(kPem);
  EXPECT_EQ(refused_at("pem_key", {{"private_key", pem}}), kTaken);
  EXPECT_EQ(refused_at("pem_key", {{"private_key", pem}, {"certificate", kCertificate}}), kTaken);
  EXPECT_EQ(refused_at("pem_key", {{"private_key", kCertificate + pem}}), kTaken);
  EXPECT_EQ(refused_at("pem_key", {{"private_key", kEncryptedPem}, {"passphrase", "test"}}),
            kTaken);
  EXPECT_EQ(refused_at("pem_key", {{"private_key", kOldEncryptedPem}, {"passphrase", "test"}}),
            kTaken);
  auto flipped = pem;
  flipped[40] = '!';
  const std::vector<std::string> no_keys{
      "x",
      kCertificate,
      flipped,
      pem.substr(0, pem.size() - 30),
      pem + pem,
      kSsh,
      "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"};
  for (const auto& text : no_keys) {
    EXPECT_EQ(refused_at("pem_key", {{"private_key", text}}), "/fields/private_key") << text;
  }
  EXPECT_EQ(refused_at("pem_key", {{"private_key", pem}, {"certificate", pem}}),
            "/fields/certificate");
  EXPECT_EQ(refused_at("pem_key", {{"certificate", kCertificate}}), "/fields/private_key");
  // A passphrase belongs to an encrypted key.
  EXPECT_EQ(refused_at("pem_key", {{"private_key", kEncryptedPem}}), "/fields/passphrase");
  EXPECT_EQ(refused_at("pem_key", {{"private_key", pem}, {"passphrase", "test"}}),
            "/fields/passphrase");
}

TEST(CredentialType, SshKeyIsInEitherForm) {
  EXPECT_EQ(refused_at("ssh_key", {{"private_key", kSsh}, {"username", "git"}}), kTaken);
  EXPECT_EQ(refused_at("ssh_key", {{"private_key", kPem}, {"known_hosts", "h ssh-rsa A\n"}}),
            kTaken);
  EXPECT_EQ(refused_at("ssh_key", {{"private_key", kEncryptedSsh}, {"passphrase", "test"}}),
            kTaken);
  EXPECT_EQ(refused_at("ssh_key", {{"private_key", kEncryptedSsh}}), "/fields/passphrase");
  EXPECT_EQ(refused_at("ssh_key", {{"private_key", kSsh}, {"username", "a b"}}),
            "/fields/username");
  const std::string ssh(kSsh);
  // Any half of it is none.
  for (std::size_t at = 60; at + 60 < ssh.size(); at += 17) {
    auto cut = ssh;
    cut.erase(at, 8);
    EXPECT_EQ(refused_at("ssh_key", {{"private_key", cut}}), "/fields/private_key") << at;
  }
}

TEST(CredentialType, KubeconfigHasItsTopLevel) {
  const std::string yaml =
      "apiVersion: v1\nkind: Config\nclusters:\n- name: c\nusers:\n- name: u\ncontexts:\n- name: "
      "x\n"
      "current-context: x\n";
  EXPECT_EQ(refused_at("kubeconfig", {{"kubeconfig", yaml}}), kTaken);
  const Json json{{"apiVersion", "v1"},
                  {"kind", "Config"},
                  {"clusters", {{{"name", "c"}}}},
                  {"users", {{{"name", "u"}}}},
                  {"contexts", {{{"name", "x"}}}}};
  EXPECT_EQ(refused_at("kubeconfig", {{"kubeconfig", json.dump()}}), kTaken);
  for (const char* line :
       {"apiVersion: v1\n", "kind: Config\n", "clusters:\n", "users:\n", "contexts:\n"}) {
    auto without = yaml;
    without.erase(without.find(line), std::string(line).size());
    EXPECT_EQ(refused_at("kubeconfig", {{"kubeconfig", without}}), "/fields/kubeconfig") << line;
    EXPECT_EQ(refused_at("kubeconfig", {{"kubeconfig", yaml + line}}), "/fields/kubeconfig")
        << line;
  }
  for (const auto& [name, value] : json.items()) {
    auto without = json;
    without.erase(name);
    EXPECT_EQ(refused_at("kubeconfig", {{"kubeconfig", without.dump()}}), "/fields/kubeconfig");
  }
  EXPECT_EQ(refused_at("kubeconfig", {{"kubeconfig", "\tkind: Config\n" + yaml}}),
            "/fields/kubeconfig");
  EXPECT_EQ(refused_at("kubeconfig", {{"kubeconfig", "{"}}), "/fields/kubeconfig");
}

TEST(CredentialType, ServiceAccountHasItsMembers) {
  const Json account{{"type", "service_account"},
                     {"project_id", "p"},
                     {"private_key_id", "k"},
                     {"private_key", kPem},
                     {"client_email", "robot@p.iam.gserviceaccount.com"},
                     {"token_uri", "https://oauth2.googleapis.com/token"},
                     {"universe_domain", "googleapis.com"}};
  const auto refused = [](const Json& json) {
    return refused_at("service_account", {{"service_account_json", json.dump()}});
  };
  EXPECT_EQ(refused(account), kTaken);
  for (const char* name :
       {"type", "project_id", "private_key_id", "private_key", "client_email", "token_uri"}) {
    for (const auto& value : {Json(nullptr), Json(""), Json(7), Json("wrong")}) {
      auto broken = account;
      broken[name] = value;
      // Any text is a name.
      const bool name_like = std::string(name) != "type" && std::string(name) != "private_key" &&
                             std::string(name) != "token_uri" && value == "wrong";
      if (!name_like) {
        EXPECT_EQ(refused(broken), "/fields/service_account_json") << name << value;
      }
    }
    auto without = account;
    without.erase(name);
    EXPECT_EQ(refused(without), "/fields/service_account_json") << name;
  }
  for (const char* text :
       {"", "{", "[]", "\"service_account\"", "{\"type\":\"authorized_user\"}"}) {
    EXPECT_EQ(refused_at("service_account", {{"service_account_json", text}}),
              "/fields/service_account_json")
        << text;
  }
}

TEST(CredentialType, DatabaseUrlHoldsUserAndPassword) {
  for (const char* url : {"postgresql://u:p@h/d", "postgres://u:p@[::1]:5432/d?sslmode=require",
                          "mysql://u:p%40@h", "mongodb+srv://u:p@h.example/?retryWrites=true",
                          "redis://u:p@h:6379/0", "postgres://u:p@h/d?x=a@b"}) {
    EXPECT_EQ(refused_at("database_url", {{"url", url}}), kTaken) << url;
  }
  for (const char* url :
       {"", "h/d", "postgres:u:p@h", "://u:p@h", "postgres://h/d", "postgres://u@h/d",
        "postgres://:p@h/d", "postgres://u:@h/d", "postgres://u:p@/d", "postgres://u:p@:5432/d",
        "postgres://u:p@x@h/d", "postgres://u:p%@h/d", "postgres://u:p%zz@h/d",
        "postgres://u:p w@h/d", "postgres://u:p@h/d\n", "post gres://u:p@h/d",
        "jdbc:postgresql://h/d?user=u&password=p", "postgres:///d?user=u:p@x"}) {
    EXPECT_EQ(refused_at("database_url", {{"url", url}}), "/fields/url") << url;
  }
}

}  // namespace
}  // namespace postern::policy
