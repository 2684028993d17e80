// The files of MCP hosts as their documentation shows them, and what becomes of them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "cli/import_secrets.h"
#include "cli/import_sources.h"
#include "cli/json_text.h"
#include "fake_server.h"
#include "temp_folder.h"

namespace postern::cli {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

sdk::SecretBytes bytes(std::string_view text) {
  sdk::SecretBytes out;
  sdk::append(out, text);
  return out;
}

std::string text_of(const sdk::SecretBytes& text) { return std::string(sdk::view(text)); }
std::string text_of(const FieldValue& value) {
  return value.expose([](ByteView view) { return std::string(as_text(view)); });
}

/// Fields and values of a server.
std::map<std::string, std::string> secrets_of(const Found& found, const std::string& server) {
  std::map<std::string, std::string> out;
  for (const auto& each : found.servers) {
    if (each.name != server) continue;
    for (const auto& secret : each.secrets) out[secret.field] = text_of(secret.value);
  }
  return out;
}

std::vector<std::string> notes_of(const Found& found, const std::string& server) {
  for (const auto& each : found.servers) {
    if (each.name == server) return each.notes;
  }
  return {};
}

struct Reader {
  ImportRules rules;
  std::map<std::string, std::string> environment;
  std::map<std::string, std::string> inputs;
  std::map<std::string, std::string> files;

  Reader() {
    rules.look_up = [this](const Reference& reference) -> std::optional<SecureBuffer> {
      const auto& values = reference.kind == Reference::Kind::Input ? inputs : environment;
      const auto known = values.find(reference.name);
      if (known == values.end()) return std::nullopt;
      return SecureBuffer::copy_of(std::string_view(known->second));
    };
    rules.read = [this](const std::string& path) -> sdk::Result<sdk::SecretBytes> {
      const auto known = files.find(path);
      if (known == files.end()) return sdk::fail(sdk::ErrorKind::Usage, "there is no such file");
      return bytes(known->second);
    };
  }

  sdk::Result<Found> read(std::string_view text, ImportFormat format,
                          const std::string& path = "/home/alice/work/.vscode/mcp.json") const {
    return read_host_file(bytes(text), format, path, rules);
  }
  Found must(std::string_view text, ImportFormat format) const {
    auto found = read(text, format);
    if (!found.ok()) throw std::runtime_error(found.error().detail);
    return std::move(found).value();
  }
};

TEST(JsonText, TakesMembersOutWhereverTheyStand) {
  struct Row {
    std::string text;
    std::vector<std::size_t> removed;
    std::string left;
  };
  const std::vector<Row> table = {
      {R"({"a":1,"b":2,"c":3})", {0}, R"({"b":2,"c":3})"},
      {R"({"a":1,"b":2,"c":3})", {1}, R"({"a":1,"c":3})"},
      {R"({"a":1,"b":2,"c":3})", {2}, R"({"a":1,"b":2})"},
      {R"({"a":1,"b":2,"c":3})", {1, 2}, R"({"a":1})"},
      {R"({"a":1,"b":2,"c":3})", {0, 1, 2}, "{}"},
      {"{\n  \"a\": 1,\n  \"b\": 2\n}", {1}, "{\n  \"a\": 1\n}"},
      {"{\r\n  \"a\": 1,\r\n  \"b\": 2\r\n}", {0}, "{\r\n  \"b\": 2\r\n}"},
      {"{\n \"a\": 1, // one\n \"b\": 2, // two\n}", {1}, "{\n \"a\": 1, // one\n // two\n}"},
      {"{\n \"a\": 1, \"b\": 2\n}", {1}, "{\n \"a\": 1 \n}"},
      {"{\"a\": 1\n, \"b\": 2\n, \"c\": 3}", {2}, "{\"a\": 1\n, \"b\": 2\n }"},
      {"{\"a\": 1 /* x */, \"b\": 2}", {0}, "{ /* x */ \"b\": 2}"},
  };
  for (const auto& row : table) {
    const auto parsed = JsonText::parse(bytes(row.text), Comments::Allowed);
    ASSERT_TRUE(parsed.ok()) << row.text;
    TextEdits edits;
    remove_members(edits, parsed.value(), parsed.value().root(), row.removed);
    EXPECT_EQ(text_of(edits.apply(parsed.value().text())), row.left) << row.text;
  }
}

TEST(JsonText, ReadsStringsAsTheyAreMeant) {
  const auto parsed =
      JsonText::parse(bytes(R"(["\u00e9\ud83d\ude00\n\/\"", "\\"])"), Comments::Refused);
  ASSERT_TRUE(parsed.ok()) << parsed.error().detail;
  EXPECT_EQ(text_of(parsed.value().string_of(parsed.value().root().items[0])),
            "\xc3\xa9\xf0\x9f\x98\x80\n/\"");
  EXPECT_EQ(text_of(parsed.value().string_of(parsed.value().root().items[1])), "\\");
}

// As the quickstart of the Model Context Protocol shows it, with GitHub's and Slack's servers.
constexpr const char* kClaudeDesktop = R"({
  "globalShortcut": "Ctrl+Space",
  "mcpServers": {
    "filesystem": {
      "command": "npx",
      "args": ["-y", "@modelcontextprotocol/server-filesystem", "/home/alice/Desktop"]
    },
    "github": {
      "command": "docker",
      "args": [
        "run", "-i", "--rm",
        "-e", "GITHUB_PERSONAL_ACCESS_TOKEN",
        "ghcr.io/github/github-mcp-server"
      ],
      "env": {
        "GITHUB_PERSONAL_ACCESS_TOKEN": "ghp_canary0123456789abcdefghijklmnopqrst",
        "GITHUB_TOOLSETS": "repos,issues"
      }
    },
    "slack": {
      "command": "npx",
      "args": ["-y", "@modelcontextprotocol/server-slack"],
      "env": {
        "SLACK_BOT_TOKEN": "xoxb-canary-slack-0123456789",
        "SLACK_TEAM_ID": "T01234567"
      }
    }
  }
}
)";

TEST(ImportClaudeDesktop, MovesSecretsAndLeavesTheRest) {
  const auto found = Reader().must(kClaudeDesktop, ImportFormat::ClaudeDesktop);
  EXPECT_EQ(secrets_of(found, "github"),
            (std::map<std::string, std::string>{
                {"GITHUB_PERSONAL_ACCESS_TOKEN", "ghp_canary0123456789abcdefghijklmnopqrst"}}));
  EXPECT_EQ(
      secrets_of(found, "slack"),
      (std::map<std::string, std::string>{{"SLACK_BOT_TOKEN", "xoxb-canary-slack-0123456789"}}));
  EXPECT_THAT(secrets_of(found, "filesystem"), IsEmpty());

  ASSERT_EQ(found.files.size(), 1u);
  EXPECT_EQ(text_of(found.files[0].original), kClaudeDesktop);
  EXPECT_EQ(text_of(found.files[0].rewritten), R"({
  "globalShortcut": "Ctrl+Space",
  "mcpServers": {
    "filesystem": {
      "command": "npx",
      "args": ["-y", "@modelcontextprotocol/server-filesystem", "/home/alice/Desktop"]
    },
    "github": {
      "command": "postern",
      "args": [
        "exec",
        "github",
        "--pass",
        "GITHUB_TOOLSETS",
        "--",
        "docker",
        "run", "-i", "--rm",
        "-e", "GITHUB_PERSONAL_ACCESS_TOKEN",
        "ghcr.io/github/github-mcp-server"
      ],
      "env": {
        "GITHUB_TOOLSETS": "repos,issues"
      }
    },
    "slack": {
      "command": "postern",
      "args": ["exec", "slack", "--pass", "SLACK_TEAM_ID", "--", "npx", "-y", "@modelcontextprotocol/server-slack"],
      "env": {
        "SLACK_TEAM_ID": "T01234567"
      }
    }
  }
}
)");
}

TEST(ImportClaudeDesktop, ASecondTimeThereIsNothing) {
  const Reader reader;
  const auto once = reader.must(kClaudeDesktop, ImportFormat::ClaudeDesktop);
  const auto twice = reader.must(sdk::view(once.files[0].rewritten), ImportFormat::ClaudeDesktop);
  EXPECT_THAT(twice.files, IsEmpty());
  for (const auto& server : twice.servers) EXPECT_THAT(server.secrets, IsEmpty());
}

TEST(ImportClaudeDesktop, WritesSettingsForPostern) {
  Reader reader;
  reader.rules.settings = {{"POSTERN_URL", "https://postern.example"}, {"POSTERN_TENANT", "acme"}};
  const auto found = reader.must(
      R"({"mcpServers":{"a":{"command":"x","env":{"API_KEY":"0123456789"}},"b":{"command":"y","args":[],"env":{"B_TOKEN":"0123456789","C":"d"}}}})",
      ImportFormat::ClaudeDesktop);
  EXPECT_EQ(json::parse(text_of(found.files[0].rewritten)), json::parse(
                                                                R"({"mcpServers":{
            "a":{"command":"postern","args":["exec","a","--","x"],
                 "env":{"POSTERN_URL":"https://postern.example","POSTERN_TENANT":"acme"}},
            "b":{"command":"postern","args":["exec","b","--pass","C","--","y"],
                 "env":{"POSTERN_URL":"https://postern.example","POSTERN_TENANT":"acme","C":"d"}}}})"));
}

TEST(ImportClaudeDesktop, AddsEnvWhereThereIsNone) {
  Reader reader;
  reader.files["/home/alice/work/.env"] = "KEY=0123456789\n";
  reader.rules.settings = {{"POSTERN_TENANT", "acme"}};
  const auto found =
      reader.must(R"({"servers": {"a": {"command": "x", "envFile": "${workspaceFolder}/.env"}}})",
                  ImportFormat::VsCode);
  EXPECT_EQ(json::parse(text_of(found.files[0].rewritten)),
            json::parse(R"({"servers":{"a":{"command":"postern","args":["exec","a","--","x"],
                "env":{"POSTERN_TENANT":"acme"},"envFile":"${workspaceFolder}/.env"}}})"));
}

TEST(ImportClaudeDesktop, RefusesWhatIsNotStrictJson) {
  const std::vector<std::pair<std::string, std::string>> table = {
      {"", "ends too early"},
      {"[]", "no object mcpServers"},
      {"{}", "no object mcpServers"},
      {R"({"mcpServers": []})", "no object mcpServers"},
      {R"({"mcpServers": {"a": 1}})", "must be an object"},
      {"{\"mcpServers\": {} // see the wiki\n}", "comment"},
      {R"({"mcpServers": {},})", "comma"},
      {R"({"mcpServers": {}, "mcpServers": {}})", "twice"},
      {R"({"mcpServers": {"a": {"env": {"T": "1", "T": "2"}}}})", "twice"},
      {R"({"mcpServers": {"a": {"env": {"T": "1", "\u0054": "2"}}}})", "twice"},
      {R"({"mcpServers": {}} x)", "after the end"},
      {"{\"mcpServers\": \"\xff\"}", "UTF-8"},
      {R"({"mcpServers": "\ud800"})", "half a character"},
      {R"({"mcpServers": "\u0000"})", "NUL"},
      {"{\"mcpServers\": \"a\nb\"}", "control character"},
      {R"({"mcpServers": 01})", "not valid JSON"},
      {R"({"mcpServers": tru})", "not valid JSON"},
      {R"({"mcpServers": )" + std::string(40, '[') + std::string(40, ']') + "}", "too deeply"},
  };
  for (const auto& [text, why] : table) {
    const auto found = Reader().read(text, ImportFormat::ClaudeDesktop);
    ASSERT_FALSE(found.ok()) << text;
    EXPECT_THAT(found.error().detail, HasSubstr(why)) << text;
  }
}

TEST(ImportClaudeDesktop, LeavesAServerWholeThatItCannotMove) {
  const auto found = Reader().must(
      R"({"mcpServers": {
        "steered": {"command": "x", "env": {"A_TOKEN": "0123456789", "POSTERN_URL": "http://x"}},
        "shaped": {"command": "x", "args": "one", "env": {"A_TOKEN": "0123456789"}},
        "odd": {"command": "x", "env": {"A_TOKEN": "0123456789", "not a name": "1"}},
        "ours": {"command": "/usr/bin/postern", "args": ["exec"], "env": {"A_TOKEN": "0123456789"}}
      }})",
      ImportFormat::ClaudeDesktop);
  EXPECT_THAT(found.files, IsEmpty());
  EXPECT_EQ(found.servers.size(), 4u);
  for (const auto& server : found.servers) {
    EXPECT_THAT(server.secrets, IsEmpty()) << server.name;
    EXPECT_EQ(server.notes.size(), 1u) << server.name;
  }
}

TEST(ImportClaudeDesktop, SaysWhatStaysOnACommandLine) {
  const auto found = Reader().must(
      R"({"mcpServers": {"postgres": {"command": "npx", "args":
         ["-y", "server-postgres", "postgresql://mcp:canary-pw@db/mcp", "--api-key", "canary-key",
          "--token=canary-token", "-e", "K=ghp_canary0123456789", "--name", "x"]}}})",
      ImportFormat::ClaudeDesktop);
  EXPECT_THAT(notes_of(found, "postgres"),
              ElementsAre(HasSubstr("argument 3"), HasSubstr("argument 5"), HasSubstr("argument 6"),
                          HasSubstr("argument 8")));
  for (const auto& note : notes_of(found, "postgres")) EXPECT_THAT(note, Not(HasSubstr("canary")));
}

TEST(ImportClaudeDesktop, LooksIntoArgumentsOfEveryShape) {
  const std::vector<std::pair<const char*, bool>> table = {
      {R"("mcp-remote", "https://mcp.example/sse", "--header", "Authorization: Bearer lin_canary012")",
       true},
      {R"("--header", "X-Api-Key:canary-key")", true},
      {R"("-H", "X-Api-Key: canary-key")", true},
      {R"("Authorization:Bearer canary-key")", true},
      {R"("run", "-e", "DB_PASSWORD=canary-pw")", true},
      {R"("run", "--env", "API_TOKEN=canary-token")", true},
      {R"("run", "--env=API_TOKEN=canary-token")", true},
      {R"("run", "-eAPI_TOKEN=canary-token")", true},
      {R"("-token", "canary-token")", true},
      {R"("-c", "export API_TOKEN=canary-token; x")", true},
      {R"("https://mcp.example/?api_key=canary-key")", true},
      {R"("--pass", "canary-pw")", true},
      {R"("--header", "Authorization: Bearer ${AUTH_TOKEN}")", false},
      {R"("--header", "Authorization:${AUTH_HEADER}")", false},
      {R"("--header", "Accept: application/json")", false},
      {R"("-c", "API_TOKEN=$API_TOKEN exec x")", false},
      {R"("--api-key", "${API_KEY}", "--api-key=${API_KEY}")", false},
      {R"("run", "-e", "API_TOKEN", "-e", "MODE=canary-mode", "-v", "/secret:/secret:ro")", false},
      {R"("ghcr.io/acme/token:latest", "token:latest", "--token-file=/run/canary-token")", false},
      {R"("https://mcp.example/token?page=canary", "--max-tokens", "4096")", false},
  };
  for (const auto& [args, secret] : table) {
    const auto found = Reader().must(
        R"({"mcpServers": {"a": {"command": "x", "args": [)" + std::string(args) + "]}}}",
        ImportFormat::ClaudeDesktop);
    EXPECT_EQ(notes_of(found, "a").size(), secret ? 1u : 0u) << args;
    for (const auto& note : notes_of(found, "a")) {
      EXPECT_THAT(note, AllOf(HasSubstr("looks like a secret"), Not(HasSubstr("canary"))));
    }
  }
}

TEST(ImportClaudeDesktop, OptionsOfPosternAreNoSecrets) {
  const auto found = Reader().must(
      R"({"mcpServers": {
        "a": {"command": "postern", "args": ["exec", "a", "--pass", "REGION", "--", "x"]},
        "b": {"command": "postern", "args": ["exec", "b", "--", "x", "--pass", "canary-pw"]}}})",
      ImportFormat::ClaudeDesktop);
  EXPECT_THAT(notes_of(found, "a"), IsEmpty());
  EXPECT_THAT(notes_of(found, "b"), ElementsAre(HasSubstr("argument 6")));
}

TEST(ImportClaudeDesktop, SaysWhatStaysInAnAddress) {
  for (const std::string url :
       {"https://mcp.example/?api_key=canary-key", "https://mcp.example/sse?x=ghp_canary0123456789",
        "https://u:canary@mcp.example/", "https://ghp_canary0123456789@mcp.example/",
        "https://mcp.example/ghp_canary0123456789/sse"}) {
    for (const std::string name : {"url", "serverUrl", "httpUrl"}) {
      const auto found = Reader().must(
          R"({"mcpServers": {"a": {")" + name + R"(": ")" + url + R"("}}})", ImportFormat::McpJson);
      EXPECT_THAT(notes_of(found, "a"),
                  ElementsAre(AllOf(HasSubstr("its " + name), Not(HasSubstr("canary")))))
          << url;
    }
  }
  for (const char* url :
       {"https://mcp.example/sse?page=2", "https://mcp.example/?api_key=${KEY}"}) {
    const auto found = Reader().must(
        R"({"mcpServers": {"a": {"url": ")" + std::string(url) + R"("}}})", ImportFormat::McpJson);
    EXPECT_THAT(found.servers, IsEmpty()) << url;
  }
}

TEST(ImportClaudeDesktop, SaysWhatIsNoString) {
  const auto found = Reader().must(
      R"({"mcpServers": {
        "a": {"command": "x", "env": {"DB_PASSWORD": 123456789012, "A_TOKEN": null,
                                      "B_TOKEN": true}},
        "b": {"command": "postern", "args": ["exec", "b"], "env": {"DB_PASSWORD": 123456789012}}}})",
      ImportFormat::ClaudeDesktop);
  EXPECT_THAT(notes_of(found, "a"), ElementsAre("DB_PASSWORD stays in env: it is no string"));
  EXPECT_THAT(notes_of(found, "b"), ElementsAre(HasSubstr("has secrets in env")));
}

TEST(ImportMcpJson, SaysThatServersOfProjectsStay) {
  const auto found = Reader().must(
      R"({"mcpServers": {}, "projects": {
        "/home/alice/a": {"mcpServers": {"x": {"command": "x", "env": {"A_TOKEN": "canary"}}}},
        "/home/alice/b": {"mcpServers": {}}, "/home/alice/c": {}}})",
      ImportFormat::McpJson);
  EXPECT_THAT(notes_of(found, "projects"), ElementsAre(HasSubstr("(1) are not looked at")));
}

TEST(ImportClaudeDesktop, SaysWhereAValueStandsOnceMore) {
  const auto found = Reader().must(
      "{\"mcpServers\": {\"a\": {\"command\": \"x\",\n\"args\": [\"canary-0123\"],\n"
      "\"env\": {\"A_TOKEN\": \"canary-0123\"}}}}",
      ImportFormat::ClaudeDesktop);
  EXPECT_THAT(notes_of(found, "a"), Contains(AllOf(HasSubstr("A_TOKEN"), HasSubstr("line 2"))));
}

TEST(ImportClaudeDesktop, TwoServersDoNotShareABackendByChance) {
  Reader reader;
  constexpr const char* kTwo =
      R"({"mcpServers": {"My Server": {"command": "x", "env": {"A_TOKEN": "0123456789"}},
                         "my-server": {"command": "y", "env": {"A_TOKEN": "9876543210"}}}})";
  const auto refused = reader.read(kTwo, ImportFormat::ClaudeDesktop);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().detail, HasSubstr("--backend"));
  reader.rules.backends["My Server"] = "other";
  EXPECT_TRUE(reader.read(kTwo, ImportFormat::ClaudeDesktop).ok());
  reader.rules.backends["My Server"] = "Not A Slug";
  EXPECT_FALSE(reader.read(kTwo, ImportFormat::ClaudeDesktop).ok());
}

TEST(ImportClaudeDesktop, TheUserSaysWhatIsASecret) {
  constexpr const char* kText =
      R"({"mcpServers": {"a": {"command": "x", "env": {"REGION": "eu", "A_TOKEN": "0123456789"}}}})";
  Reader reader;
  reader.rules.also = {"REGION"};
  reader.rules.except = {"A_TOKEN"};
  EXPECT_EQ(secrets_of(reader.must(kText, ImportFormat::ClaudeDesktop), "a"),
            (std::map<std::string, std::string>{{"REGION", "eu"}}));
  reader.rules = ImportRules{};
  reader.rules.all = true;
  EXPECT_EQ(secrets_of(reader.must(kText, ImportFormat::ClaudeDesktop), "a").size(), 2u);
  reader.rules.servers = {"b"};
  EXPECT_THAT(reader.must(kText, ImportFormat::ClaudeDesktop).files, IsEmpty());
}

// As VS Code's documentation shows it, with comments and a file of variables.
constexpr const char* kVsCode = R"({
  // See https://aka.ms/vscode-mcp
  "inputs": [
    {
      "type": "promptString",
      "id": "perplexity-key",
      "description": "Perplexity API Key",
      "password": true
    },
    {"type": "promptString", "id": "region", "description": "Region"},
  ],
  "servers": {
    /* asks */
    "Perplexity": {
      "type": "stdio",
      "command": "npx", // from npm
      "args": ["-y", "server-perplexity-ask"],
      "env": {
        "PERPLEXITY_API_KEY": "${input:perplexity-key}", // asked once
        "REGION": "${input:region}",
      },
    },
    "fetch": {
      "type": "stdio",
      "command": "uvx",
      "args": ["mcp-server-fetch"],
      "envFile": "${workspaceFolder}/.env"
    },
    "github": {
      "type": "http",
      "url": "https://api.githubcopilot.com/mcp/",
      "headers": {"Authorization": "Bearer ${input:github-token}", "X-MCP-Toolsets": "repos"}
    }
  }
}
)";

TEST(ImportVsCode, CommentsSurvive) {
  Reader reader;
  reader.inputs = {{"perplexity-key", "pplx-canary"}, {"github-token", "canary-header"}};
  reader.files["/home/alice/work/.env"] =
      "# of fetch\nFETCH_TOKEN=canary-env-file\nexport MODE='fast' # or slow\n";
  const auto found = reader.must(kVsCode, ImportFormat::VsCode);
  EXPECT_EQ(secrets_of(found, "Perplexity"),
            (std::map<std::string, std::string>{{"PERPLEXITY_API_KEY", "pplx-canary"}}));
  EXPECT_EQ(secrets_of(found, "fetch"),
            (std::map<std::string, std::string>{{"FETCH_TOKEN", "canary-env-file"}}));
  EXPECT_EQ(secrets_of(found, "github"),
            (std::map<std::string, std::string>{{"HEADER_AUTHORIZATION", "Bearer canary-header"}}));
  EXPECT_THAT(notes_of(found, "github"), Contains(HasSubstr("stays in the file")));

  ASSERT_EQ(found.files.size(), 2u);
  const auto rewritten = text_of(found.files[0].rewritten);
  for (const char* comment :
       {"// See https://aka.ms/vscode-mcp", "/* asks */", "// from npm", "// asked once"}) {
    EXPECT_THAT(rewritten, HasSubstr(comment));
  }
  EXPECT_THAT(rewritten,
              AllOf(HasSubstr(R"("command": "postern", // from npm)"),
                    HasSubstr(R"(["exec", "perplexity", "--pass", "REGION", "--", "npx", "-y",)"),
                    HasSubstr(R"(["exec", "fetch", "--pass", "MODE", "--", "uvx", "mcp-)"),
                    HasSubstr(R"("REGION": "${input:region}",)"),
                    Not(HasSubstr("PERPLEXITY_API_KEY")), HasSubstr("Bearer ${input:github")));
  EXPECT_EQ(found.files[1].path, "/home/alice/work/.env");
  EXPECT_EQ(text_of(found.files[1].rewritten), "# of fetch\nexport MODE='fast' # or slow\n");
  // Still what its host takes.
  EXPECT_TRUE(reader.read(rewritten, ImportFormat::VsCode).ok());
}

TEST(ImportVsCode, AServerWithoutItsValueStaysAsItIs) {
  const auto found = Reader().must(kVsCode, ImportFormat::VsCode);
  EXPECT_THAT(found.files, IsEmpty());
  EXPECT_THAT(notes_of(found, "Perplexity"), Contains(HasSubstr("PERPLEXITY_API_KEY")));
  EXPECT_THAT(notes_of(found, "fetch"), Contains(HasSubstr("there is no such file")));
}

TEST(ImportVsCode, AFileThatAnotherServerReadsStays) {
  Reader reader;
  reader.files["/home/alice/work/.env"] = "FETCH_TOKEN=canary-env-file\n";
  reader.rules.servers = {"a"};
  const auto found = reader.must(
      R"({"servers": {"a": {"command": "x", "envFile": "${workspaceFolder}/.env"},
                      "b": {"command": "y", "envFile": "${workspaceFolder}/.env"}}})",
      ImportFormat::VsCode);
  ASSERT_EQ(found.files.size(), 1u);
  EXPECT_EQ(found.files[0].path, "/home/alice/work/.vscode/mcp.json");
  EXPECT_THAT(notes_of(found, "/home/alice/work/.env"), ElementsAre(HasSubstr("stays as it is")));
}

TEST(ImportVsCode, AnEnvFileThatStillHasItsSecretsIsGoneOnWith) {
  Reader reader;
  reader.files["/home/alice/work/.env"] = "FETCH_TOKEN=canary-env-file\nMODE=fast\n";
  const auto once = reader.must(
      R"({"servers": {"fetch": {"command": "x", "envFile": "${workspaceFolder}/.env"}}})",
      ImportFormat::VsCode);
  ASSERT_EQ(once.files.size(), 2u);

  // Only the first of the two was rewritten.
  const auto twice = reader.must(sdk::view(once.files[0].rewritten), ImportFormat::VsCode);
  ASSERT_EQ(twice.files.size(), 1u);
  EXPECT_EQ(twice.files[0].path, "/home/alice/work/.env");
  EXPECT_EQ(text_of(twice.files[0].rewritten), "MODE=fast\n");
  ASSERT_EQ(twice.servers.size(), 1u);
  EXPECT_TRUE(twice.servers[0].imported);
  EXPECT_EQ(twice.servers[0].backend, "fetch");
  EXPECT_EQ(secrets_of(twice, "fetch"),
            (std::map<std::string, std::string>{{"FETCH_TOKEN", "canary-env-file"}}));

  reader.files["/home/alice/work/.env"] = "MODE=fast\n";
  EXPECT_THAT(reader.must(sdk::view(once.files[0].rewritten), ImportFormat::VsCode).servers,
              IsEmpty());
}

TEST(ImportVsCode, AnEnvFileOfAnUnknownBackendIsSaid) {
  Reader reader;
  reader.files["/home/alice/work/.env"] = "FETCH_TOKEN=canary-env-file\n";
  const auto found = reader.must(
      R"({"servers": {"fetch": {"command": "postern", "args": ["exec", "--pass", "A", "fetch"],
                                "envFile": "${workspaceFolder}/.env"}}})",
      ImportFormat::VsCode);
  EXPECT_THAT(found.files, IsEmpty());
  EXPECT_TRUE(found.unfinished);
  EXPECT_THAT(notes_of(found, "fetch"), Contains(HasSubstr("its envFile has secrets")));
}

TEST(ImportVsCode, TwoHeadersAreNotOneField) {
  const auto found = Reader().must(
      R"({"servers": {"a": {"url": "https://mcp.example",
        "headers": {"X-Api-Key": "canary-one", "x_api_key": "canary-two"}}}})",
      ImportFormat::VsCode);
  EXPECT_EQ(secrets_of(found, "a"),
            (std::map<std::string, std::string>{{"HEADER_X_API_KEY", "canary-one"}}));
  EXPECT_THAT(notes_of(found, "a"), Contains(HasSubstr("header x_api_key stays: another one")));
}

TEST(ImportCursor, TakesWhatTheEnvironmentHas) {
  Reader reader;
  reader.environment["GH"] = "ghp_canary";
  constexpr const char* kText =
      R"({"mcpServers": {"github": {"command": "npx", "args": ["-y", "x"],
         "env": {"GITHUB_TOKEN": "${env:GH}", "HOME_DIR": "${userHome}"}}}})";
  const auto found = reader.must(kText, ImportFormat::Cursor);
  EXPECT_EQ(secrets_of(found, "github"),
            (std::map<std::string, std::string>{{"GITHUB_TOKEN", "ghp_canary"}}));
  ASSERT_EQ(found.files.size(), 1u);
  EXPECT_EQ(text_of(found.files[0].rewritten),
            R"({"mcpServers": {"github": {"command": "postern", "args": ["exec", "github", )"
            R"("--pass", "HOME_DIR", "--", "npx", "-y", "x"],
         "env": {"HOME_DIR": "${userHome}"}}}})");
  reader.environment.clear();
  EXPECT_THAT(reader.must(kText, ImportFormat::Cursor).files, IsEmpty());
}

TEST(ImportMcpJson, KnowsDefaultsOfReferences) {
  Reader reader;
  reader.environment["KEY"] = "from-environment";
  const auto found = reader.must(
      R"({"mcpServers": {"a": {"command": "x", "env": {"API_KEY": "${KEY}", "B_TOKEN": "${NONE:-fallback}"}}}})",
      ImportFormat::McpJson);
  EXPECT_EQ(secrets_of(found, "a"), (std::map<std::string, std::string>{
                                        {"API_KEY", "from-environment"}, {"B_TOKEN", "fallback"}}));
  ASSERT_EQ(found.files.size(), 1u);
  EXPECT_EQ(text_of(found.files[0].rewritten),
            R"({"mcpServers": {"a": {"command": "postern", "args": ["exec", "a", "--", "x"], )"
            R"("env": {}}}})");
}

TEST(ImportSecrets, AreKnownByNameValueOrUrl) {
  const std::vector<std::pair<std::string, std::string>> secrets = {
      {"GITHUB_TOKEN", "abcdefgh"},
      {"API_KEY", "abcdefgh"},
      {"apiKey", "abcdefgh"},
      {"DB_PASSWORD", "hunter2"},
      {"X-API-Key", "abcdefgh"},
      {"Authorization", "abcdefgh"},
      {"GITHUB_PAT", "abcdefgh"},
      {"SENTRY_DSN", "https://key@sentry.example/1"},
      {"ANY", "ghp_0123456789abcdef"},
      {"ANY", "xoxb-0123456789abcdef"},
      {"ANY", "sk-ant-0123456789abcd"},
      {"ANY", "Bearer 0123456789abcdef"},
      {"DATABASE_URL", "postgresql://mcp:pw@db.example/mcp"},
      {"ANY", "https://mcp.example/sse?mode=fast&apiKey=abcdefgh#top"},
      {"ANY", "https://mcp.example/?x=ghp_0123456789abcdef"},
  };
  for (const auto& [name, value] : secrets) EXPECT_NE(why_secret(name, value), "") << name << value;
  const std::vector<std::pair<std::string, std::string>> others = {
      {"REGION", "eu-west-1"},
      {"MAX_TOKENS", "4096"},
      {"TOKEN_LIMIT", "100000000"},
      {"PUBLIC_KEY", "abcdefgh"},
      {"KEYCLOAK_URL", "https://idp.example"},
      {"TOKEN_FILE", "/run/token"},
      {"AUTH_ENABLED", "true"},
      {"DATABASE_URL", "postgresql://db.example/mcp"},
      {"DATABASE_URL", "postgresql://mcp@db.example/mcp"},
      {"ANY", "https://mcp.example/token?page=abcdefgh&max_tokens=4096"},
      {"ANY", "sk-short"},
      {"PASSTHROUGH", "abcdefgh"},
      {"GITHUB_TOKEN", ""},
  };
  for (const auto& [name, value] : others) EXPECT_EQ(why_secret(name, value), "") << name;
}

TEST(ImportDotenv, ReadsAndRewritesWithoutItsSecrets) {
  constexpr const char* kText =
      "# database\r\n"
      "export DB_PASSWORD=\"pa\\\"ss\\nword\"\r\n"
      "REGION=eu # west\n"
      "\n"
      "SINGLE_TOKEN='a # b $c'\n"
      "MULTI_KEY=\"line 1\nline 2\"\n"
      "REFERS_TOKEN=${OTHER}\n"
      "LAST_SECRET=0123456789";
  const auto found = read_dotenv_file(bytes(kText), "db", "/work/.env", {});
  ASSERT_TRUE(found.ok()) << found.error().detail;
  EXPECT_EQ(secrets_of(found.value(), ".env"),
            (std::map<std::string, std::string>{{"DB_PASSWORD", "pa\"ss\nword"},
                                                {"SINGLE_TOKEN", "a # b $c"},
                                                {"MULTI_KEY", "line 1\nline 2"},
                                                {"LAST_SECRET", "0123456789"}}));
  EXPECT_THAT(notes_of(found.value(), ".env"), ElementsAre(HasSubstr("REFERS_TOKEN stays")));
  EXPECT_EQ(text_of(found.value().files[0].rewritten),
            "# database\r\nREGION=eu # west\n\nREFERS_TOKEN=${OTHER}\n");
}

TEST(ImportDotenv, SaysWhereAValueStandsOnceMore) {
  constexpr const char* kText =
      "# was canary-0123\nA_TOKEN=canary-0123\nB_TOKEN=other-0123\nSAME=canary-0123\n";
  const auto found = read_dotenv_file(bytes(kText), "a", "/work/.env", {});
  ASSERT_TRUE(found.ok()) << found.error().detail;
  EXPECT_THAT(notes_of(found.value(), ".env"),
              ElementsAre(AllOf(HasSubstr("A_TOKEN stands in the file"), HasSubstr("line 1"))));
  Reader reader;
  reader.files["/home/alice/work/.env"] = kText;
  const auto host =
      reader.must(R"({"servers": {"a": {"command": "x", "envFile": "${workspaceFolder}/.env"}}})",
                  ImportFormat::VsCode);
  EXPECT_THAT(notes_of(host, "a"), ElementsAre(HasSubstr("A_TOKEN stands in the envFile")));
}

TEST(ImportDotenv, OfNothingButSecretsALineIsLeft) {
  const auto found = read_dotenv_file(bytes("A_TOKEN=0123456789\n"), "a", "/work/.env", {});
  ASSERT_TRUE(found.ok()) << found.error().detail;
  EXPECT_EQ(text_of(found.value().files[0].rewritten), "\n");
  Reader reader;
  reader.files["/home/alice/work/.env"] = "A_TOKEN=0123456789";
  const auto host =
      reader.must(R"({"servers": {"a": {"command": "x", "envFile": "${workspaceFolder}/.env"}}})",
                  ImportFormat::VsCode);
  EXPECT_EQ(text_of(host.files[1].rewritten), "\n");
}

TEST(ImportDotenv, RefusesWhatIsNone) {
  for (const std::string text : {"A", "=1", "A B=1", "1A=1", "A=1\nA=2", "A='x", "A=\"x", "A='x' y",
                                 "export", "A=\xff", "AWS-KEY=1"}) {
    EXPECT_FALSE(parse_dotenv(text).ok()) << text;
  }
  EXPECT_FALSE(parse_dotenv(std::string_view("A=\0", 3)).ok());
  std::string many;
  for (int i = 0; i < 1001; ++i) many += "A" + std::to_string(i) + "=1\n";
  EXPECT_FALSE(parse_dotenv(many).ok());
  const auto fault = parse_dotenv("# one\nA=1\nB 2\n");
  ASSERT_FALSE(fault.ok());
  EXPECT_THAT(fault.error().detail, HasSubstr("line 3"));
}

// Shaped as docker/mcp-registry writes it.
constexpr const char* kCatalogue = R"(version: 3
name: docker-mcp
registry:
  github:
    title: GitHub
    image: mcp/github@sha256:0123
    secrets:
      - name: github.personal_access_token
        env: GITHUB_PERSONAL_ACCESS_TOKEN
        example: <YOUR_TOKEN>
    env:
      - name: GITHUB_HOST
        value: "{{github.host}}"
  team:
    image: team/mcp
    env:
      - name: TEAM_TOKEN
        value: canary-in-catalogue
      - name: TEAM_KEY
        value: "{{team.key}}"
)";

TEST(ImportDockerCatalog, TakesWhatItsServersNeed) {
  Reader reader;
  reader.environment["GITHUB_PERSONAL_ACCESS_TOKEN"] = "ghp_canary";
  const auto found = read_docker_catalog(kCatalogue, "catalog.yaml", reader.rules);
  ASSERT_TRUE(found.ok()) << found.error().detail;
  EXPECT_EQ(secrets_of(found.value(), "github"),
            (std::map<std::string, std::string>{{"GITHUB_PERSONAL_ACCESS_TOKEN", "ghp_canary"}}));
  EXPECT_EQ(secrets_of(found.value(), "team"),
            (std::map<std::string, std::string>{{"TEAM_TOKEN", "canary-in-catalogue"}}));
  EXPECT_THAT(found.value().files, IsEmpty());
  reader.environment["LD_PRELOAD"] = "canary";
  const auto steered = read_docker_catalog("registry: {a: {secrets: [{env: LD_PRELOAD}]}}",
                                           "catalog.yaml", reader.rules);
  ASSERT_TRUE(steered.ok()) << steered.error().detail;
  EXPECT_THAT(secrets_of(steered.value(), "a"), IsEmpty());
  EXPECT_THAT(notes_of(steered.value(), "a"), ElementsAre(HasSubstr("is not imported")));
  EXPECT_FALSE(read_docker_catalog("a: 1", "c.yaml", reader.rules).ok());
  EXPECT_FALSE(read_docker_catalog("registry: {a: 1, a: 2}", "c.yaml", reader.rules).ok());
}

constexpr const char* kNeedsTwo = R"(registry:
  pair: {secrets: [{env: FIRST_TOKEN}, {env: SECOND_TOKEN}]}
  other: {secrets: [{env: OTHER_TOKEN}]}
)";

TEST(ImportDockerCatalog, WithNothingKnownSaysWhatIsNeeded) {
  const Reader reader;
  const auto found = read_docker_catalog(kNeedsTwo, "catalog.yaml", reader.rules);
  ASSERT_TRUE(found.ok()) << found.error().detail;
  EXPECT_THAT(notes_of(found.value(), "pair"),
              ElementsAre(HasSubstr("FIRST_TOKEN, SECOND_TOKEN are needed and not known")));
  EXPECT_THAT(notes_of(found.value(), "other"),
              ElementsAre(AllOf(HasSubstr("OTHER_TOKEN is needed and not known"),
                                HasSubstr("--from-env"), HasSubstr("--from-file"))));
}

TEST(ImportDockerCatalog, ImportsNoHalfOfACredential) {
  Reader reader;
  reader.environment["FIRST_TOKEN"] = "canary-first";
  const auto half = read_docker_catalog(kNeedsTwo, "catalog.yaml", reader.rules);
  ASSERT_TRUE(half.ok()) << half.error().detail;
  ASSERT_EQ(half.value().servers.size(), 1u) << "who has one of a server's does not mean others";
  EXPECT_THAT(half.value().servers[0].secrets, IsEmpty());
  EXPECT_THAT(notes_of(half.value(), "pair"),
              ElementsAre(AllOf(HasSubstr("SECOND_TOKEN is needed and not known"),
                                Not(HasSubstr("FIRST_TOKEN")))));

  reader.environment["OTHER_TOKEN"] = "canary-other";
  const auto one = read_docker_catalog(kNeedsTwo, "catalog.yaml", reader.rules);
  ASSERT_TRUE(one.ok());
  EXPECT_THAT(secrets_of(one.value(), "pair"), IsEmpty());
  EXPECT_EQ(secrets_of(one.value(), "other").size(), 1u);

  reader.rules.except = {"SECOND_TOKEN"};
  const auto left_out = read_docker_catalog(kNeedsTwo, "catalog.yaml", reader.rules);
  ASSERT_TRUE(left_out.ok());
  EXPECT_EQ(secrets_of(left_out.value(), "pair"),
            (std::map<std::string, std::string>{{"FIRST_TOKEN", "canary-first"}}));

  // A server that is named is meant, others known or not.
  reader.rules.except.clear();
  reader.environment.clear();
  reader.rules.servers = {"other"};
  const auto named = read_docker_catalog(kNeedsTwo, "catalog.yaml", reader.rules);
  ASSERT_TRUE(named.ok());
  ASSERT_EQ(named.value().servers.size(), 1u);
  EXPECT_THAT(notes_of(named.value(), "other"), ElementsAre(HasSubstr("OTHER_TOKEN is needed")));
}

TEST(ImportDockerCatalog, AValueInTheCatalogueIsKnown) {
  const Reader reader;
  const auto found = read_docker_catalog(
      "registry: {a: {secrets: [{env: A_TOKEN}], env: [{name: A_TOKEN, value: canary-a}]}}",
      "catalog.yaml", reader.rules);
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(secrets_of(found.value(), "a"),
            (std::map<std::string, std::string>{{"A_TOKEN", "canary-a"}}));
}

// ---- Vault ----

/// KV version 2 as Vault answers: a list for folders, data for secrets.
class Vault {
 public:
  Vault() { folder.write("token", "hvs.canary-vault-token\n"); }

  sdk::Result<Found> read(const std::string& prefix = {}) {
    VaultSource source;
    source.url = server.url();
    source.token_file = folder.path("token");
    source.prefix = prefix;
    return read_vault(source, {});
  }

  test::TempFolder folder;
  std::map<std::string, std::string> answers{
      {"/v1/secret/metadata/?list=true", R"({"data":{"keys":["team/","root"]}})"},
      {"/v1/secret/metadata/team?list=true", R"({"data":{"keys":["gone","my db"]}})"},
      {"/v1/secret/data/root",
       R"({"data":{"data":{"api_key":"canary-root"},"metadata":{"version":3}}})"},
      {"/v1/secret/data/team/my%20db",
       R"({"data":{"data":{"password":"canary-db","port":5432,"ssl-mode":"x"}}})"}};
  test::FakeServer server{[this](const test::SeenRequest& request) {
    const auto known = answers.find(request.target);
    return known == answers.end() ? test::json_reply(404, R"({"errors":[]})")
                                  : test::json_reply(200, known->second);
  }};
};

TEST(ImportVault, ReadsAllBelowAPath) {
  Vault vault;
  const auto found = vault.read();
  ASSERT_TRUE(found.ok()) << found.error().detail;
  EXPECT_EQ(secrets_of(found.value(), "root"),
            (std::map<std::string, std::string>{{"api_key", "canary-root"}}));
  EXPECT_EQ(secrets_of(found.value(), "team/my db"),
            (std::map<std::string, std::string>{{"password", "canary-db"}}));
  EXPECT_THAT(notes_of(found.value(), "team/my db"),
              UnorderedElementsAre("port stays: it is no text",
                                   "ssl-mode stays: no credential can have a field of that name"));
  for (const auto& request : vault.server.requests()) {
    EXPECT_EQ(request.method, "GET");
    EXPECT_EQ(request.header("authorization"), "Bearer hvs.canary-vault-token");
  }
  const auto one = vault.read("root");
  ASSERT_TRUE(one.ok());
  EXPECT_EQ(one.value().servers.size(), 1u);
}

TEST(ImportVault, WhereNothingIsIsAnError) {
  Vault vault;
  vault.answers.erase("/v1/secret/metadata/?list=true");
  for (const char* prefix : {"", "wrong", "wrong/", "team/gone"}) {
    const auto found = vault.read(prefix);
    ASSERT_FALSE(found.ok()) << prefix;
    EXPECT_EQ(found.error().kind, sdk::ErrorKind::Usage);
    EXPECT_THAT(found.error().detail, AllOf(HasSubstr("nothing to read at secret/"),
                                            HasSubstr("no KV version 2"), HasSubstr("--mount")));
  }
  EXPECT_TRUE(vault.read("team").ok());
}

TEST(ImportVault, NamesAKeyThatStaysUnlessItCouldBeAnything) {
  const auto long_key = std::string(65, 'k') + "-";
  const auto body = json{{"data",
                          {{"data",
                            {{"client-id", "canary"},
                             {"port", 5432},
                             {"canary key", "canary"},
                             {long_key, "canary"}}}}}};
  const auto server = parse_vault_secret(body.dump(), "db", {}).value();
  EXPECT_THAT(server.secrets, IsEmpty());
  EXPECT_THAT(server.notes,
              UnorderedElementsAre("client-id stays: no credential can have a field of that name",
                                   "port stays: it is no text",
                                   "a key stays: no credential can have a field of that name",
                                   "a key stays: no credential can have a field of that name"));
}

TEST(ImportVault, APathIsTheNameThatItsClientsUse) {
  const auto server =
      parse_vault_secret(R"({"data":{"data":{"token":"x"}}})", "team/github", {}).value();
  EXPECT_EQ(server.backend, "team-github");
  EXPECT_EQ(server.credential_name(), "team..github");
  EXPECT_EQ(server.secrets[0].variable, "TOKEN");
}

TEST(ImportVault, SaysWhatIsNotDelivered) {
  const auto server =
      parse_vault_secret(
          R"({"data":{"data":{"api_key":"canary-a","API_KEY":"canary-b","ld_preload":"canary-c"}}})",
          "team/github", {})
          .value();
  std::map<std::string, std::string> variables;
  for (const auto& secret : server.secrets) variables[secret.field] = secret.variable;
  EXPECT_EQ(variables, (std::map<std::string, std::string>{
                           {"API_KEY", "API_KEY"}, {"api_key", ""}, {"ld_preload", ""}}));
  EXPECT_THAT(server.notes, ElementsAre(AllOf(HasSubstr("api_key is stored, and not delivered"),
                                              HasSubstr("another key is the variable API_KEY")),
                                        AllOf(HasSubstr("ld_preload is stored, and not delivered"),
                                              HasSubstr("could take over"))));
}

TEST(ImportVault, RefusesAnswersThatAreNone) {
  for (const char* body :
       {"", "[]", "{}", R"({"data":[]})", R"({"data":{"keys":"a"}})", R"({"data":{"keys":[1]}})",
        R"({"data":{"keys":[".."]}})", R"({"data":{"keys":[""]}})", R"({"data":{"keys":["a/b"]}})",
        R"({"data":{"keys":["/"]}})", R"({"data":{"keys":[]},"data":{}})"}) {
    EXPECT_FALSE(parse_vault_list(body).ok()) << body;
  }
  for (const char* body : {"", "{}", R"({"data":{}})", R"({"data":{"data":null}})",
                           R"({"data":{"data":{"a":"1","a":"2"}}})"}) {
    EXPECT_FALSE(parse_vault_secret(body, "p", {}).ok()) << body;
  }
}

TEST(ImportVault, EndsInFoldersWithoutEnd) {
  Vault vault;
  test::FakeServer endless([](const test::SeenRequest&) {
    return test::json_reply(200, R"({"data":{"keys":["a/"]}})");
  });
  VaultSource source;
  source.url = endless.url();
  source.token_file = vault.folder.path("token");
  const auto found = read_vault(source, {});
  ASSERT_FALSE(found.ok());
  EXPECT_THAT(found.error().detail, HasSubstr("deeper"));
}

TEST(ImportVault, GoesNowhereElse) {
  Vault vault;
  VaultSource source;
  source.token_file = vault.folder.path("token");
  for (const char* url :
       {"http://vault.example:8200", "ftp://127.0.0.1", "https://u:p@vault.example"}) {
    source.url = url;
    EXPECT_FALSE(read_vault(source, {}).ok()) << url;
  }
  source.url = vault.server.url();
  for (const char* prefix : {"a/../b", "/a", "a//b", "."}) {
    source.prefix = prefix;
    EXPECT_FALSE(read_vault(source, {}).ok()) << prefix;
  }
  EXPECT_THAT(vault.server.requests(), IsEmpty());
  test::FakeServer elsewhere([](const test::SeenRequest&) {
    return test::http_reply(307, "text/plain", "", "Location: http://127.0.0.1:1/\r\n");
  });
  source.url = elsewhere.url();
  source.prefix.clear();
  EXPECT_FALSE(read_vault(source, {}).ok());
}

TEST(ImportFormats, AreKnownByNameAndShape) {
  EXPECT_EQ(format_of("/x/claude_desktop_config.json", ""), ImportFormat::ClaudeDesktop);
  EXPECT_EQ(format_of("/x/.vscode/mcp.json", ""), ImportFormat::VsCode);
  EXPECT_EQ(format_of("/x/.cursor/mcp.json", ""), ImportFormat::Cursor);
  EXPECT_EQ(format_of("/x/mcp.json", R"({"servers": {}})"), ImportFormat::VsCode);
  EXPECT_EQ(format_of("/x/.mcp.json", R"({"mcpServers": {}})"), ImportFormat::McpJson);
  EXPECT_EQ(format_of("/x/.env.local", ""), ImportFormat::Dotenv);
  EXPECT_EQ(format_of("/x/catalog.yaml", ""), ImportFormat::DockerCatalog);
  EXPECT_EQ(format_of("/x/settings", ""), std::nullopt);
}

}  // namespace
}  // namespace postern::cli
