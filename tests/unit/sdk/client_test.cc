#include "postern/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "cli/manifest.h"
#include "fake_server.h"
#include "postern/json.h"
#include "temp_folder.h"

namespace postern::sdk {
namespace {

using test::FakeServer;
using test::http_reply;
using test::json_reply;
using test::problem_reply;
using test::SeenRequest;
using ::testing::HasSubstr;
using ::testing::Not;

const TenantId kTenant("acme");
constexpr const char* kCanary = "canary-4f1b";

BearerToken bearer(std::string_view text) { return BearerToken(SecureBuffer::copy_of(text)); }
SubjectToken subject(std::string_view text) { return SubjectToken(SecureBuffer::copy_of(text)); }

Client client_of(const std::string& url, std::size_t max_answer_bytes = 1 << 20) {
  TransportOptions options;
  options.url = url;
  options.max_answer_bytes = max_answer_bytes;
  options.timeout = std::chrono::seconds(20);
  Credentials credentials;
  credentials.token = bearer("postern_op_x");
  credentials.client = ClientCredentials{"gw-01", ClientSecret(SecureBuffer::copy_of("s3:c ret%"))};
  return Client::create(std::move(options), std::move(credentials)).value();
}

/// The error of a status() call that is answered with these bytes.
Error status_error(const std::string& reply) {
  FakeServer server([&](const SeenRequest&) { return reply; });
  auto client = client_of(server.url());
  const auto status = client.status();
  return status.ok() ? fail(ErrorKind::Usage, "it succeeded") : status.error();
}

TEST(Transport, TakesHttpsAndLoopbackOnly) {
  const char* const good[] = {"https://postern.example", "https://postern.example:8443/base/",
                              "http://127.0.0.1:8711",   "http://localhost:1",
                              "http://[::1]:8711",       "http://127.8.9.1",
                              "HTTPS://postern.example"};
  for (const char* url : good) {
    TransportOptions options;
    options.url = url;
    EXPECT_TRUE(Transport::create(options).ok()) << url;
  }
  const char* const bad[] = {"http://postern.example",
                             "http://10.0.0.1:8711",
                             "http://127.0.0.1.evil.example",
                             "http://127.evil.example",
                             "http://localhost.evil.example",
                             "http://localhost@evil.example",
                             "http://127.0.0.1@evil.example",
                             "https://user:pass@postern.example",
                             "https://postern.example?x=1",
                             "https://postern.example/#x",
                             "ftp://127.0.0.1",
                             "file:///etc/passwd",
                             "unix:/run/x",
                             "127.0.0.1:8711",
                             "postern.example",
                             "https://",
                             "https:///path",
                             "http://127.0.0.1:99999",
                             "http://0.0.0.0",
                             "http://[::ffff:10.0.0.1]",
                             " https://postern.example",
                             "https://a b",
                             ""};
  for (const char* url : bad) {
    TransportOptions options;
    options.url = url;
    const auto made = Transport::create(options);
    ASSERT_FALSE(made.ok()) << url;
    EXPECT_EQ(made.error().kind, ErrorKind::Usage) << url;
  }
}

TEST(Transport, KeepsABasePath) {
  FakeServer server([](const SeenRequest&) { return json_reply(200, R"({"items":[]})"); });
  auto client = client_of(server.url() + "/postern/");
  ASSERT_TRUE(client.tenants().ok());
  EXPECT_EQ(server.requests()[0].target, "/postern/api/v1/tenants?limit=100");
}

TEST(Transport, DoesNotFollowRedirects) {
  FakeServer elsewhere([](const SeenRequest&) { return json_reply(200, "{}"); });
  for (const int status : {301, 302, 303, 307, 308}) {
    FakeServer server([&](const SeenRequest&) {
      return json_reply(status, "{}", "Location: " + elsewhere.url() + "/steal\r\n");
    });
    auto client = client_of(server.url());
    const auto result = client.status();
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().kind, ErrorKind::BrokenAnswer);
    EXPECT_THAT(result.error().detail, HasSubstr("redirects"));
  }
  EXPECT_TRUE(elsewhere.requests().empty());
}

TEST(Transport, IgnoresProxyVariablesForLoopback) {
  FakeServer proxy([](const SeenRequest&) { return json_reply(200, "{}"); });
  FakeServer server([](const SeenRequest&) { return json_reply(200, R"({"items":[]})"); });
  ::setenv("http_proxy", proxy.url().c_str(), 1);
  ::setenv("ALL_PROXY", proxy.url().c_str(), 1);
  auto client = client_of(server.url());
  const auto result = client.tenants();
  ::unsetenv("http_proxy");
  ::unsetenv("ALL_PROXY");
  EXPECT_TRUE(result.ok());
  EXPECT_TRUE(proxy.requests().empty());
}

TEST(Transport, BoundsTheAnswer) {
  FakeServer server([](const SeenRequest&) {
    return json_reply(200, "{\"a\":\"" + std::string(100'000, 'x') + "\"}");
  });
  auto client = client_of(server.url(), 50'000);
  const auto result = client.status();
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().kind, ErrorKind::BrokenAnswer);
  EXPECT_THAT(result.error().detail, HasSubstr("larger than 50000 bytes"));
}

TEST(Transport, BoundsAnAnswerWithoutALength) {
  FakeServer server([](const SeenRequest&) {
    return "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" +
           std::string(10'000'000, ' ');
  });
  auto client = client_of(server.url(), 1'000'000);
  EXPECT_THAT(client.status().error().detail, HasSubstr("larger than 1000000 bytes"));
}

TEST(Transport, SaysThatNothingListens) {
  std::string url;
  {
    FakeServer gone([](const SeenRequest&) { return ""; });
    url = gone.url();
  }
  auto client = client_of(url);
  const auto result = client.status();
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().kind, ErrorKind::Unreachable);
  EXPECT_EQ(result.error().detail, "cannot reach " + url + ": nothing accepts connections there");
  EXPECT_TRUE(is_temporary(result.error()));
}

TEST(Transport, GivesUpOnSilence) {
  // Listens, and never answers: the kernel accepts for it.
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(::listen(listener, 1), 0);
  ASSERT_EQ(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size), 0);
  TransportOptions options;
  options.url = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  options.timeout = std::chrono::milliseconds(50);
  Credentials credentials;
  credentials.token = bearer("x");
  auto client = Client::create(options, std::move(credentials)).value();
  const auto result = client.status();
  ::close(listener);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().kind, ErrorKind::Unreachable);
  EXPECT_THAT(result.error().detail, HasSubstr("no answer in time"));
}

TEST(Client, RefusesAnswersThatAreNotPosterns) {
  const std::pair<std::string, const char*> table[] = {
      {"", "without an answer"},
      {"nonsense\r\n\r\n", "is not HTTP"},
      {http_reply(200, "text/html", "<html>Login</html>"), "is not application/json"},
      {http_reply(200, "application/jsonx", "{}"), "is not application/json"},
      {json_reply(200, ""), "is not valid JSON"},
      {json_reply(200, "{"), "is not valid JSON"},
      {json_reply(200, "{} {}"), "is not valid JSON"},
      {json_reply(200, std::string("{}\0{}", 5)), "NUL"},
      {json_reply(200, R"({"version":"1","version":"2"})"), "one member twice"},
      {json_reply(200, std::string(100'000, '[')), "nested too deeply"},
      {json_reply(200, "[]"), "something else where an object belongs"},
      {json_reply(200, "{}"), "lacks the member version"},
      {json_reply(200, R"({"version":1})"), "that is no text: version"},
      {json_reply(200, R"({"version":"1","schema_version":true})"), "no whole number"},
      {json_reply(200, R"({"version":"1","schema_version":-1})"), "no whole number"},
      {json_reply(200, R"({"version":"1","schema_version":1e30})"), "no whole number"},
      {json_reply(200, R"({"version":"1","schema_version":18446744073709551615})"), "too large"},
      {"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{}",
       "ended in the middle"},
  };
  for (const auto& [reply, reason] : table) {
    const auto error = status_error(reply);
    EXPECT_THAT(error.detail, HasSubstr(reason)) << reply.substr(0, 200);
    EXPECT_TRUE(error.kind == ErrorKind::BrokenAnswer || error.kind == ErrorKind::Unreachable);
  }
}

TEST(Client, ReadsProblemDetails) {
  const auto error = status_error(problem_reply(
      403, R"({"type":"https://postern.example/problems/forbidden","title":"Forbidden",)"
           R"("status":403,"detail":"an admin may not do this","pointer":"/a/0",)"
           R"("request_id":"r-1","connect_url":"https://c.example"})"));
  EXPECT_EQ(error.kind, ErrorKind::Refused);
  EXPECT_EQ(error.status, 403);
  EXPECT_EQ(error.code, "forbidden");
  EXPECT_EQ(error.title, "Forbidden");
  EXPECT_EQ(error.detail, "an admin may not do this");
  EXPECT_EQ(error.pointer, "/a/0");
  EXPECT_EQ(error.request_id, "r-1");
  EXPECT_EQ(error.connect_url, "https://c.example");
}

TEST(Client, ReadsOAuthErrors) {
  const auto error = status_error(
      json_reply(400, R"({"error":"invalid_target","error_description":"unknown resource"})",
                 "X-Request-Id: r-2\r\n"));
  EXPECT_EQ(error.code, "invalid_target");
  EXPECT_EQ(error.detail, "unknown resource");
  EXPECT_EQ(error.request_id, "r-2");
}

TEST(Client, TakesFromABrokenErrorWhatCanBeRead) {
  EXPECT_EQ(status_error(http_reply(502, "text/html", "<h1>Bad Gateway</h1>")).detail,
            "HTTP status 502 without an explanation");
  EXPECT_EQ(status_error(problem_reply(400, R"({"detail":7,"title":"Bad"})")).detail, "Bad");
  EXPECT_EQ(status_error(problem_reply(400, R"(["detail"])")).detail,
            "HTTP status 400 without an explanation");
  EXPECT_EQ(status_error(json_reply(401, R"({"error":"invalid_client"})")).detail,
            "invalid_client");
  const auto limited = status_error(json_reply(503, "{}", "Retry-After: 7\r\n"));
  EXPECT_EQ(limited.retry_after, std::chrono::seconds(7));
  EXPECT_TRUE(is_temporary(limited));
  for (const char* odd : {"-1", "soon", "7x", "99999999999999999999"}) {
    EXPECT_FALSE(status_error(json_reply(503, "{}", std::string("Retry-After: ") + odd + "\r\n"))
                     .retry_after)
        << odd;
  }
}

TEST(Client, SendsTheBearerTokenOnlyWhereItBelongs) {
  FakeServer server([](const SeenRequest& request) {
    return request.target.find("/jwks") != std::string::npos ? json_reply(200, R"({"keys":[]})")
                                                             : json_reply(200, R"({"items":[]})");
  });
  auto client = client_of(server.url());
  ASSERT_TRUE(client.tenants().ok());
  ASSERT_TRUE(client.jwks(kTenant).ok());
  const auto requests = server.requests();
  EXPECT_EQ(requests[0].header("authorization"), "Bearer postern_op_x");
  EXPECT_EQ(requests[1].header("authorization"), "");
}

TEST(Client, EncodesClientAndSecretAsRfc6749Says) {
  FakeServer server([](const SeenRequest&) {
    return json_reply(200, R"({"access_token":"a","token_type":"Bearer"})");
  });
  auto client = client_of(server.url());
  ASSERT_TRUE(client.client_credentials(kTenant, {}, "").ok());
  // base64("gw-01:s3%3Ac+ret%25"), encoded by another tool.
  EXPECT_EQ(server.requests()[0].header("authorization"), "Basic Z3ctMDE6czMlM0FjK3JldCUyNQ==");
}

TEST(Client, ExchangesWithEveryParameter) {
  FakeServer server([](const SeenRequest&) {
    return json_reply(
        200,
        R"({"access_token":"narrow","issued_token_type":"urn:ietf:params:oauth:token-type:jwt",)"
        R"("token_type":"Bearer","expires_in":300,"scope":"a b"})");
  });
  auto client = client_of(server.url());
  const auto token = subject("ey.J+/=");
  ExchangeRequest request{token};
  request.audience = {"github"};
  request.resource = {"https://a.example/mcp?x=1&y", "https://b.example"};
  request.scope = "a b";

  const auto issued = client.exchange(kTenant, request);

  ASSERT_TRUE(issued.ok()) << issued.error().detail;
  EXPECT_EQ(issued.value().scope, "a b");
  EXPECT_EQ(issued.value().expires_in, std::chrono::seconds(300));
  issued.value().access_token.expose([](ByteView bytes) { EXPECT_EQ(as_text(bytes), "narrow"); });
  const auto seen = server.requests()[0];
  EXPECT_EQ(seen.target, "/t/acme/token");
  EXPECT_EQ(seen.header("content-type"), "application/x-www-form-urlencoded");
  EXPECT_EQ(seen.header("expect"), "");
  EXPECT_EQ(seen.body,
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange"
            "&subject_token=ey.J%2B%2F%3D"
            "&subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token"
            "&audience=github&resource=https%3A%2F%2Fa.example%2Fmcp%3Fx%3D1%26y"
            "&resource=https%3A%2F%2Fb.example&scope=a+b");
}

constexpr const char* kReleased =
    R"({"items":[{"backend":"github","status":"allowed","env":{"GITHUB_TOKEN":"t1"},)"
    R"("headers":{},"files":[{"name":"f","env":"F","content":"c"}],)"
    R"("expires_at":"2026-11-21T05:40:00Z",)"
    R"("credential":{"name":"github","owner":"principal","version":3}},)"
    R"({"backend":"db","status":"refused","error":"interaction_required","detail":"none stored",)"
    R"("connect_url":"https://portal.example"}]})";

TEST(Client, ReadsAReleaseItemByItem) {
  FakeServer server([](const SeenRequest&) { return json_reply(200, kReleased); });
  auto client = client_of(server.url());

  const auto items =
      client.release(kTenant, subject("user"), "", {{"github", "", "", "a"}, {"db", "", "", ""}});

  ASSERT_TRUE(items.ok()) << items.error().detail;
  EXPECT_EQ(server.requests()[0].body,
            R"({"items":[{"backend":"github","scope":"a"},{"backend":"db"}],)"
            R"("subject_token":"user"})");
  const auto& github = items.value()[0];
  EXPECT_TRUE(github.allowed);
  EXPECT_EQ(github.credential_version, 3u);
  github.env[0].second.expose([](ByteView bytes) { EXPECT_EQ(as_text(bytes), "t1"); });
  const auto& db = items.value()[1];
  EXPECT_FALSE(db.allowed);
  EXPECT_EQ(db.connect_url, "https://portal.example");
}

TEST(Client, ExchangesForManyTargetsAtOnce) {
  FakeServer server([](const SeenRequest&) {
    return json_reply(200, R"({"items":[{"backend":"files","status":"allowed",)"
                           R"("access_token":"t","token_type":"Bearer","expires_in":9},)"
                           R"({"audience":"x","status":"refused","error":"invalid_target"}]})");
  });
  auto client = client_of(server.url());
  const auto user = subject("user");
  ExchangeRequest request{user};
  request.requested_token_type = token_type::kJwt;
  const auto answer =
      client.exchange(kTenant, request, {{"files", "", "", "a"}, {"", "", "x", ""}});
  ASSERT_TRUE(answer.ok()) << answer.error().detail;
  EXPECT_EQ(server.requests()[0].body,
            R"({"items":[{"backend":"files","requested_token_type":)"
            R"("urn:ietf:params:oauth:token-type:jwt","scope":"a"},)"
            R"({"audience":"x","requested_token_type":"urn:ietf:params:oauth:token-type:jwt"}],)"
            R"("subject_token":"user",)"
            R"("subject_token_type":"urn:ietf:params:oauth:token-type:access_token"})");
  ASSERT_TRUE(answer.value().items[0].issued);
  EXPECT_EQ(answer.value().items[0].issued->expires_in, std::chrono::seconds(9));
  EXPECT_FALSE(answer.value().items[1].issued);
  EXPECT_EQ(answer.value().items[1].backend, "x");
  EXPECT_EQ(answer.value().items[1].error, "invalid_target");
  // One item too few, and one that is neither.
  EXPECT_FALSE(client.exchange(kTenant, request, {{"files", "", "", ""}}).ok());
}

TEST(Client, RefusesAReleaseThatDoesNotFitTheQuestion) {
  const std::pair<const char*, const char*> table[] = {
      {R"({"items":[]})", "one item for each asked"},
      {R"({"items":[{"backend":"github","status":"maybe"}]})", "neither allowed nor refused"},
      {R"({"items":[{"backend":"github"}]})", "lacks the member status"},
      {R"({"items":[{"backend":"github","status":"refused"}]})", "lacks the member error"},
      {R"({"items":[{"backend":"github","status":"allowed","env":["X"]}]})", "no object: env"},
      {R"({"items":[{"backend":"github","status":"allowed","env":{"X":1}}]})", "no text: env"},
      {R"({"items":[{"backend":"github","status":"allowed","expires_at":"soon"}]})", "no RFC 3339"},
  };
  for (const auto& [reply, reason] : table) {
    FakeServer server(
        [&, text = std::string(reply)](const SeenRequest&) { return json_reply(200, text); });
    auto client = client_of(server.url());
    const auto items = client.release(kTenant, subject("user"), "", {{"github", "", "", ""}});
    ASSERT_FALSE(items.ok()) << reply;
    EXPECT_THAT(items.error().detail, HasSubstr(reason));
  }
}

TEST(Client, KeepsSecretsOutOfErrors) {
  const std::string replies[] = {
      json_reply(200, std::string(R"({"access_token":")") + kCanary),
      json_reply(200, std::string(R"({"access_token":")") + kCanary + R"("})"),
      json_reply(200, std::string(R"({"access_token":["canary-4f1b"]})")),
      json_reply(200, std::string("{\"") + kCanary + "\":1,\"" + kCanary + "\":2}"),
      http_reply(200, "text/plain", kCanary),
  };
  for (const auto& reply : replies) {
    FakeServer server([&](const SeenRequest&) { return reply; });
    auto client = client_of(server.url());
    const auto token = subject(kCanary);
    const auto issued = client.exchange(kTenant, ExchangeRequest{token});
    ASSERT_FALSE(issued.ok());
    EXPECT_THAT(issued.error().detail, Not(HasSubstr(kCanary)));
  }
}

TEST(Client, NeedsTheRightKindOfProof) {
  TransportOptions options;
  options.url = "http://127.0.0.1:1";
  auto nobody = Client::create(options, {}).value();
  EXPECT_EQ(nobody.status().error().kind, ErrorKind::Usage);
  EXPECT_EQ(nobody.client_credentials(kTenant, {}, "").error().kind, ErrorKind::Usage);
}

TEST(Client, SendsPreconditions) {
  FakeServer server([](const SeenRequest&) { return problem_reply(412, "{}"); });
  auto client = client_of(server.url());
  std::vector<CredentialField> fields;
  fields.push_back({"token", FieldValue(SecureBuffer::copy_of("v"))});
  const CredentialName name("github");
  const auto owner = CredentialOwner::principal({"https://idp.example", "a&b"});
  const auto ignore = [](auto&&) {};
  ignore(client.put_credential(kTenant, name, owner, fields, {}, 0));
  ignore(client.put_credential(kTenant, name, owner, fields, {}, 7));
  ApplyOptions only;
  only.only_epoch = 3;
  ignore(client.apply(kTenant, {}, only));
  const auto requests = server.requests();
  EXPECT_EQ(requests[0].target,
            "/api/v1/tenants/acme/credentials/github?issuer=https%3A%2F%2Fidp.example&"
            "subject=a%26b");
  EXPECT_EQ(requests[0].body, R"({"cas":0,"fields":{"token":"v"}})");
  EXPECT_EQ(requests[1].body, R"({"cas":7,"fields":{"token":"v"}})");
  EXPECT_EQ(requests[2].header("if-match"), "\"3\"");
  EXPECT_EQ(requests[2].target, "/api/v1/tenants/acme/manifest?dry_run=false&prune=false");
}

/// sdk/openapi.yaml as JSON. Read by our own reader, which also keeps it plain.
Json openapi() {
  std::ifstream file(POSTERN_SOURCE_DIR "/sdk/openapi.yaml");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  auto reading = cli::read_yaml(text, "openapi.yaml", cli::Documents::One);
  for (const auto& fault : reading.faults) ADD_FAILURE() << fault.text();
  return reading.documents.empty() ? Json() : reading.documents[0].json();
}

/// Whether a path of the contract, such as /t/{tenant}/token, is this target.
bool matches(std::string_view pattern, std::string_view target) {
  target = target.substr(0, target.find('?'));
  while (!pattern.empty() && !target.empty()) {
    if (pattern[0] == '{') {
      pattern.remove_prefix(pattern.find('}') + 1);
      const auto end = std::min(target.find('/'), target.size());
      if (end == 0) return false;
      target.remove_prefix(end);
    } else if (pattern[0] == target[0]) {
      pattern.remove_prefix(1);
      target.remove_prefix(1);
    } else {
      return false;
    }
  }
  return pattern.empty() && target.empty();
}

TEST(Contract, EveryCallIsInOpenApiWithItsParameters) {
  FakeServer server([](const SeenRequest&) { return problem_reply(404, "{}"); });
  auto client = client_of(server.url());
  const auto token = subject("user");
  const ClientId gateway("gw-01");
  const CredentialName name("github");
  const auto owner = CredentialOwner::principal({"https://idp.example", "alice"});
  std::vector<CredentialField> fields;
  fields.push_back({"token", FieldValue(SecureBuffer::copy_of("v"))});
  CredentialFilter filter;
  filter.owner = "principal";
  filter.principal = owner.principal();
  filter.cursor = "c";
  AuditQuery audit;
  audit.after = 1;
  audit.action = "token.exchange";
  const auto call = [](auto&& result) { EXPECT_EQ(result.error().status, 404); };
  call(client.status());
  call(client.tenants("c", 10));
  call(client.tenant(kTenant));
  call(client.delete_tenant(kTenant));
  call(client.apply(kTenant, {}, {}));
  call(client.manifest(kTenant));
  call(client.create_admin_token(kTenant, "x", {}));
  call(client.admin_tokens(kTenant));
  call(client.delete_admin_token(kTenant, "id"));
  call(client.create_initial_access_token(kTenant, "x", {}, 1));
  call(client.initial_access_tokens(kTenant));
  call(client.delete_initial_access_token(kTenant, "id"));
  call(client.add_client_secret(kTenant, gateway, {}));
  call(client.client_secrets(kTenant, gateway));
  call(client.delete_client_secret(kTenant, gateway, "id"));
  call(client.put_credential(kTenant, name, owner, fields, {}));
  call(client.credential(kTenant, name, owner));
  CredentialDescription description;
  description.labels = {{"team", "web"}, {"old", std::nullopt}};
  call(client.describe_credential(kTenant, name, owner, description));
  call(client.delete_credential(kTenant, name, owner));
  call(client.credential_versions(kTenant, name, owner));
  for (const auto change :
       {VersionChange::Delete, VersionChange::Undelete, VersionChange::Destroy}) {
    call(client.change_credential_version(kTenant, name, owner, 3, change));
  }
  call(client.reveal_credential(kTenant, name, owner, "a drill", 2));
  filter.labels = {{"team", "web"}, {"env", "prod"}};
  filter.type = "basic";
  filter.overdue = true;
  call(client.credentials(kTenant, filter));
  call(client.release(kTenant, token, token_type::kJwt, {{"github", "", "", "a"}}));
  call(client.audit(kTenant, audit));
  call(client.verify_audit(kTenant));
  call(client.exchange(kTenant, ExchangeRequest{token}));
  call(client.client_credentials(kTenant, {}, ""));
  call(client.jwks(kTenant));
  call(client.metadata(kTenant));

  const auto contract = openapi();
  for (const auto& request : server.requests()) {
    const Json* path = nullptr;
    for (const auto& [pattern, item] : contract.at("paths").items()) {
      if (matches(pattern, request.target)) path = &item;
    }
    ASSERT_NE(path, nullptr) << request.target;
    std::string method = request.method;
    for (auto& c : method) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    ASSERT_TRUE(path->contains(method)) << request.method << " " << request.target;
    const auto& operation = path->at(method);

    std::string parameters;
    for (const auto& parameter : operation.value("parameters", Json::array())) {
      auto reference = parameter.value("$ref", "");
      const auto& resolved =
          reference.empty() ? parameter : contract.at(Json::json_pointer(reference.substr(1)));
      if (resolved.at("in") == "query") {
        parameters += "&" + resolved.at("name").get<std::string>() + "&";
      }
    }
    const auto question = request.target.find('?');
    auto query = question == std::string::npos ? "" : request.target.substr(question + 1) + "&";
    while (!query.empty()) {
      const auto parameter_name = query.substr(0, query.find('='));
      EXPECT_THAT(parameters, HasSubstr("&" + parameter_name + "&")) << request.target;
      query.erase(0, query.find('&') + 1);
    }
    if (const auto type = request.header("content-type"); !type.empty()) {
      EXPECT_TRUE(operation.at("requestBody").at("content").contains(type)) << request.target;
    }
  }
}

void check_references(const Json& contract, const Json& value) {
  if (value.is_object() && value.contains("$ref")) {
    const auto reference = value.at("$ref").get<std::string>();
    ASSERT_EQ(reference.substr(0, 2), "#/");
    EXPECT_TRUE(contract.contains(Json::json_pointer(reference.substr(1)))) << reference;
  }
  if (value.is_structured()) {
    for (const auto& element : value) check_references(contract, element);
  }
}

TEST(Contract, EveryReferenceLeadsSomewhere) {
  const auto contract = openapi();
  EXPECT_EQ(contract.at("openapi"), "3.1.0");
  check_references(contract, contract);
}

}  // namespace
}  // namespace postern::sdk
