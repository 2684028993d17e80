#include "cli/import_sources.h"

#include <algorithm>
#include <iterator>
#include <set>

#include "cli/environment.h"
#include "cli/import_secrets.h"
#include "cli/json_text.h"
#include "cli/manifest.h"
#include "cli/output.h"
#include "core/ids.h"
#include "core/variables.h"

namespace postern::cli {
namespace {

using sdk::ErrorKind;
using Kind = JsonNode::Kind;

bool contains(const std::vector<std::string>& list, std::string_view text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

/// As a JSON string. Never for a value.
std::string quoted(const std::string& text) { return sdk::Json(text).dump(); }

FieldValue value_of(std::string_view text) { return FieldValue(SecureBuffer::copy_of(text)); }

bool takes_server(const ImportRules& rules, const std::string& name) {
  return rules.servers.empty() || contains(rules.servers, name);
}

/// The text without what was taken out. Never nothing at all, which no credential could keep.
sdk::SecretBytes left_of(std::string_view text, const TextEdits& edits) {
  auto left = edits.apply(text);
  if (left.empty()) left.push_back('\n');
  return left;
}

/// Adds a secret, and says so when there are too many.
bool add_secret(FoundServer& server, FoundSecret secret) {
  if (server.secrets.size() >= kMaxImportFields) {
    server.notes.push_back(secret.field + " stays: a credential has at most " +
                           std::to_string(kMaxImportFields) + " fields");
    return false;
  }
  server.secrets.push_back(std::move(secret));
  return true;
}

/// A text with its references put in.
struct Resolved {
  sdk::SecretBytes value;
  bool references = false;
  bool complete = true;  ///< all of them are known
};

std::optional<Reference> reference_in(std::string_view inside, ImportFormat format) {
  Reference out;
  if (inside.starts_with("input:")) {
    out.kind = Reference::Kind::Input;
    inside.remove_prefix(6);
  } else if (inside.starts_with("env:")) {
    inside.remove_prefix(4);
  } else if (format != ImportFormat::McpJson) {
    return std::nullopt;  // ${workspaceFolder} and its like
  }
  out.name = inside;
  return out;
}

/// Calls `use` with each piece of the text: what is there, or the inside of a reference.
template <class Use>
void for_each_piece(std::string_view text, ImportFormat format, Use use) {
  // Claude Desktop takes all text as it is.
  while (format != ImportFormat::ClaudeDesktop) {
    const auto open = text.find("${");
    const auto close = open == text.npos ? text.npos : text.find('}', open);
    if (close == text.npos) break;
    use(text.substr(0, open), std::string_view());
    use(std::string_view(), text.substr(open + 2, close - open - 2));
    text.remove_prefix(close + 1);
  }
  use(text, std::string_view());
}

/// A text without what stands for something else in it.
sdk::SecretBytes literal_of(std::string_view text) {
  sdk::SecretBytes out;
  for_each_piece(text, ImportFormat::McpJson,
                 [&](std::string_view piece, std::string_view) { sdk::append(out, piece); });
  return out;
}

/// `-e NAME`, `--api-key`, `export NAME`: the name in it; empty when there is none.
std::string_view name_in(std::string_view text) {
  text.remove_prefix(text.rfind(' ') + 1);  // npos is the number before 0
  text.remove_prefix(std::min(text.find_first_not_of('-'), text.size()));
  const bool plain = std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  });
  return plain ? text : std::string_view();
}

/// Whether an argument has a secret in it.
/// @param before  the option that it may be the value of
bool argument_holds_secret(std::string_view argument, std::string_view before) {
  const auto literal = literal_of(argument);
  auto rest = sdk::view(literal);
  const auto holds = [&](std::string_view name, std::string_view value) {
    const bool refers = literal.size() != argument.size() || value.starts_with("$");
    return !why_secret_value(value).empty() || (!refers && !why_secret(name, value).empty());
  };
  if (holds(rest.starts_with("-") ? std::string_view() : before, rest)) return true;
  // --api-key=…, NAME=…, --env=NAME=…, X-Api-Key: …
  for (int depth = 0; depth < 2; ++depth) {
    const auto end = rest.find_first_of("=:");
    if (end == rest.npos) return false;
    const auto name = name_in(rest.substr(0, end));
    const bool colon = rest[end] == ':';
    rest.remove_prefix(end + 1);
    // Without a space a colon is of images, ports and paths too.
    const bool named = !colon || rest.starts_with(" ") || before == "header" || before == "H";
    rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
    if (holds(named ? name : std::string_view(), rest)) return true;
  }
  return false;
}

/// A value may stand in a comment or an argument too.
/// @param file  what the text is
void warn_of_copies(std::vector<FoundServer>& servers, std::string_view rewritten,
                    const std::string& file) {
  constexpr std::size_t kTelling = 8;  // shorter ones stand anywhere by chance
  for (auto& server : servers) {
    for (const auto& secret : server.secrets) {
      if (!secret.header.empty()) continue;
      const auto at = secret.value.expose([&](ByteView value) {
        return value.size() < kTelling ? rewritten.npos : rewritten.find(as_text(value));
      });
      if (at == rewritten.npos) continue;
      const auto line =
          std::count(rewritten.begin(), rewritten.begin() + static_cast<std::ptrdiff_t>(at), '\n');
      server.notes.push_back("the value of " + secret.field + " stands in " + file +
                             " once more, in line " + std::to_string(line + 1) + " of the new one");
    }
  }
}

/// What a server lacks to be imported.
std::string needed(const std::set<std::string>& variables) {
  std::string names;
  for (const auto& name : variables) names += (names.empty() ? "" : ", ") + name;
  const bool one = variables.size() == 1;
  return "nothing of it is imported: " + names + (one ? " is" : " are") +
         " needed and not known; give " + (one ? "it" : "them") +
         " with --from-env or --from-file, or leave " + (one ? "it" : "them") +
         " out with --except";
}

class HostReader {
 public:
  HostReader(ImportFormat format, const std::string& path, const ImportRules& rules)
      : format_(format), path_(path), rules_(rules) {}

  sdk::Result<Found> read(sdk::SecretBytes text) {
    const bool comments = format_ == ImportFormat::VsCode || format_ == ImportFormat::Cursor;
    POSTERN_TRY(auto json,
                JsonText::parse(std::move(text), comments ? Comments::Allowed : Comments::Refused));
    json_ = &json;
    const auto& root = json.root();
    const char* const list = format_ == ImportFormat::VsCode ? "servers" : "mcpServers";
    const auto* servers = root.find(list);
    if (!root.is(Kind::Object) || servers == nullptr || !servers->value.is(Kind::Object)) {
      return sdk::fail(ErrorKind::Usage, std::string("it has no object ") + list);
    }
    if (servers->value.members.size() > kMaxImportServers) {
      return sdk::fail(ErrorKind::Usage,
                       "it has more than " + std::to_string(kMaxImportServers) + " servers");
    }
    read_inputs(root);
    for (const auto& member : servers->value.members) POSTERN_CHECK(read_server(member));
    look_at_projects(root);
    POSTERN_CHECK(finish_files(comments ? Comments::Allowed : Comments::Refused));
    return std::move(found_);
  }

 private:
  struct EnvFile {
    std::vector<DotenvEntry> entries;
    sdk::SecretBytes text;
    bool left = false;  ///< a server that stays as it is needs it as it is
    std::set<std::string> taken;
  };

  void read_inputs(const JsonNode& root) {
    const auto* inputs = root.find("inputs");
    if (inputs == nullptr) return;
    for (const auto& input : inputs->value.items) {
      const auto* id = input.find("id");
      const auto* password = input.find("password");
      if (id == nullptr || !id->value.is(Kind::String) || password == nullptr) continue;
      const auto& flag = password->value;
      if (json_->text().substr(flag.begin, flag.end - flag.begin) == "true") {
        password_inputs_.insert(string_of(id->value));
      }
    }
  }

  /// Claude Code has servers of single projects too.
  void look_at_projects(const JsonNode& root) {
    const auto* projects = root.find("projects");
    if (projects == nullptr) return;
    const auto& all = projects->value.members;
    const auto count = std::count_if(all.begin(), all.end(), [](const JsonMember& project) {
      const auto* servers = project.value.find("mcpServers");
      return servers != nullptr && !servers->value.members.empty();
    });
    if (count == 0) return;
    FoundServer note;
    note.name = "projects";
    note.notes.push_back("servers of single projects (" + std::to_string(count) +
                         ") are not looked at and stay, with what secrets they have");
    found_.servers.push_back(std::move(note));
  }

  std::string string_of(const JsonNode& node) const {  // of what is no secret
    return std::string(sdk::view(json_->string_of(node)));
  }

  /// Nothing for other values.
  sdk::SecretBytes number_of(const JsonNode& node) const {
    sdk::SecretBytes out;
    const auto text = json_->text().substr(node.begin, node.end - node.begin);
    if (node.is(Kind::Other) && text.find_first_of("0123456789") != text.npos) {
      sdk::append(out, text);
    }
    return out;
  }

  bool asks_for_password(std::string_view text) const {
    bool out = false;
    for_each_piece(text, format_, [&](std::string_view, std::string_view inside) {
      out = out || (inside.starts_with("input:") &&
                    password_inputs_.count(std::string(inside.substr(6))) != 0);
    });
    return out;
  }

  bool refers(std::string_view text) const {
    bool out = false;
    for_each_piece(text, format_, [&](std::string_view, std::string_view inside) {
      out = out || !inside.empty();
    });
    return out;
  }

  Resolved resolve(std::string_view text, const std::string& variable) const {
    Resolved out;
    for_each_piece(text, format_, [&](std::string_view piece, std::string_view inside) {
      sdk::append(out.value, piece);
      if (inside.empty()) return;
      out.references = true;
      auto reference = reference_in(inside, format_);
      if (!reference) {
        out.complete = false;
        return;
      }
      reference->variable = variable;
      std::optional<std::string> otherwise;
      if (const auto colon = reference->name.find(":-"); colon != std::string::npos) {
        otherwise = reference->name.substr(colon + 2);
        reference->name.resize(colon);
      }
      if (const auto value = rules_.look_up ? rules_.look_up(*reference) : std::nullopt) {
        sdk::append(out.value, as_text(value->readable()));
      } else if (otherwise) {
        sdk::append(out.value, *otherwise);
      } else {
        out.complete = false;
      }
    });
    return out;
  }

  /// Whether the server runs postern already: what somebody called a secret is out of it then,
  /// and what was left is a secret only where it looks like one.
  enum class Imported { No, Yes };

  /// Why this is a secret; empty: it is none.
  std::string why(const std::string& name, std::string_view text,
                  Imported imported = Imported::No) const {
    if (contains(rules_.except, name) || text.empty()) return {};
    const bool all = rules_.all && imported == Imported::No;
    if (all || contains(rules_.also, name)) return "you say so";
    if (asks_for_password(text)) return "a password input";
    return std::string(refers(text) ? why_secret_name(name) : why_secret(name, text));
  }

  /// Takes the value of a variable or header into the credential. False: it is not known.
  bool take(FoundServer& server, FoundSecret secret, std::string_view text) {
    const auto resolved = resolve(text, secret.variable);
    if (!resolved.complete || resolved.value.empty()) {
      server.notes.push_back("it stays as it is: the value of " + secret.field +
                             " is not in the file; give it with --from-env or --from-file" +
                             (asks_for_password(text) ? ", or let --yes ask at a terminal" : ""));
      return false;
    }
    secret.value = value_of(sdk::view(resolved.value));
    return add_secret(server, std::move(secret));
  }

  sdk::Status read_server(const JsonMember& member) {
    if (!takes_server(rules_, member.name)) {
      leave(member.value);
      return {};
    }
    if (!member.value.is(Kind::Object)) {
      return sdk::fail(ErrorKind::Usage, "line " + std::to_string(json_->line_of(member.begin)) +
                                             ": a server must be an object");
    }
    FoundServer server;
    server.name = member.name;
    const auto* command = member.value.find("command");
    bool taken = false;
    look_at_url(member.value, server);
    if (command != nullptr && command->value.is(Kind::String)) {
      POSTERN_CHECK(read_command(member.value, command->value, server, taken));
    } else {
      read_headers(member.value, server);
    }
    if (!taken) leave(member.value);
    if (server.secrets.empty() && server.notes.empty()) return {};
    if (!server.secrets.empty()) {
      if (!server.imported) {
        POSTERN_TRY(server.backend, backend_of(server.name, rules_));
      }
      const auto same = [&](const auto& other) {
        return !other.secrets.empty() && other.backend == server.backend &&
               !(server.imported && other.imported);
      };
      if (std::any_of(found_.servers.begin(), found_.servers.end(), same)) {
        return sdk::fail(ErrorKind::Usage, "two servers would be the backend " + server.backend +
                                               "; name one with --backend SERVER=BACKEND");
      }
    }
    found_.servers.push_back(std::move(server));
    return {};
  }

  /// A server that stays needs the file it reads.
  void leave(const JsonNode& entry) {
    FoundServer ignored;
    if (auto* file = env_file_of(entry, ignored)) file->left = true;
  }

  EnvFile* env_file_of(const JsonNode& entry, FoundServer& server) {
    const auto* member = entry.find("envFile");
    if (member == nullptr || !member->value.is(Kind::String)) return nullptr;
    auto path = string_of(member->value);
    const auto folder = path_.substr(0, path_.rfind('/'));
    constexpr std::string_view kWorkspace = "${workspaceFolder}/";
    if (path.starts_with(kWorkspace)) {
      const auto slash = folder.rfind('/');
      if (folder.substr(slash + 1) == ".vscode" || folder.substr(slash + 1) == ".cursor") {
        path = folder.substr(0, slash + 1) + path.substr(kWorkspace.size());
      }
    }
    if (path.empty() || path[0] != '/' || path.find("${") != path.npos) {
      server.notes.push_back(
          "its envFile is not looked at: only a path that begins with / or, in "
          "a workspace, with ${workspaceFolder} is known here");
      return nullptr;
    }
    const auto known = env_files_.find(path);
    if (known != env_files_.end()) return &known->second;
    if (!rules_.read) return nullptr;
    auto text = rules_.read(path);
    if (!text.ok()) {
      server.notes.push_back("its envFile is not looked at: " + text.error().detail);
      return nullptr;
    }
    auto entries = parse_dotenv(sdk::view(text.value()));
    if (!entries.ok()) {
      server.notes.push_back("its envFile is not looked at: " + entries.error().detail);
      return nullptr;
    }
    auto& file = env_files_[path];
    file.entries = std::move(entries).value();
    file.text = std::move(text).value();
    return &file;
  }

  sdk::Status read_command(const JsonNode& entry, const JsonNode& command, FoundServer& server,
                           bool& taken) {
    const auto* args = entry.find("args");
    const auto* env = entry.find("env");
    if ((args != nullptr && !args->value.is(Kind::Array)) ||
        (env != nullptr && !env->value.is(Kind::Object))) {
      server.notes.push_back("it stays as it is: args must be a list and env an object");
      return {};
    }
    const auto program = string_of(command);
    const bool ours = program == "postern" || (program.size() > 8 && program.ends_with("/postern"));
    look_at_arguments(args, ours, server);
    if (ours) {
      const auto holds = [&](const JsonMember& variable) {
        const auto text = variable.value.is(Kind::String) ? json_->string_of(variable.value)
                                                          : number_of(variable.value);
        return !variable.name.starts_with("POSTERN_") &&
               !why(variable.name, sdk::view(text)).empty();
      };
      if (env != nullptr &&
          std::any_of(env->value.members.begin(), env->value.members.end(), holds)) {
        server.notes.push_back("it runs postern already, and has secrets in env all the same");
      }
      read_imported(entry, args, env, server, taken);
      return {};
    }

    std::vector<std::size_t> removed;
    std::vector<std::string> passed;
    bool known = true;
    if (env != nullptr) {
      for (std::size_t i = 0; i < env->value.members.size(); ++i) {
        const auto& variable = env->value.members[i];
        if (variable.name.starts_with("POSTERN_")) {
          server.notes.push_back("it stays as it is: its env has " + variable.name +
                                 ", which would steer postern");
          known = false;
          continue;
        }
        if (!variable.value.is(Kind::String)) {
          if (!why(variable.name, sdk::view(number_of(variable.value))).empty()) {
            server.notes.push_back(variable.name + " stays in env: it is no string");
          }
          pass(variable.name, passed, server, known);
          continue;
        }
        const auto text = json_->string_of(variable.value);
        const auto reason = why(variable.name, sdk::view(text));
        if (reason.empty()) {
          pass(variable.name, passed, server, known);
        } else if (const auto not_that = why_not_delivered(variable.name); !not_that.empty()) {
          server.notes.push_back(variable.name + " stays in env: " + not_that);
          pass(variable.name, passed, server, known);
        } else {
          removed.push_back(i);
          known = take(server, {variable.name, variable.name, {}, reason, value_of({})},
                       sdk::view(text)) &&
                  known;
        }
      }
    }
    auto* file = env_file_of(entry, server);
    std::set<std::string> from_file;
    if (file != nullptr) {
      from_file = take_lines(*file, env, server, known,
                             [&](const std::string& name) { pass(name, passed, server, known); });
    }
    if (!known) server.secrets.clear();
    if (server.secrets.empty()) return {};
    taken = true;
    if (file != nullptr) file->taken.merge(from_file);
    return rewrite(entry, command, program, args, env, removed, passed, server);
  }

  /// Takes the secrets of an envFile, and calls `pass_on` with the variables that stay.
  /// @return  which lines they are
  template <class PassOn>
  std::set<std::string> take_lines(const EnvFile& file, const JsonMember* env, FoundServer& server,
                                   bool& known, PassOn pass_on,
                                   Imported imported = Imported::No) const {
    std::set<std::string> out;
    for (const auto& line : file.entries) {
      if (env != nullptr && env->value.find(line.name) != nullptr) continue;         // env wins
      if (imported == Imported::Yes && line.name.starts_with("POSTERN_")) continue;  // ours
      const auto text = as_text(line.value.readable());
      auto reason = why(line.name, text, imported);
      if (!reason.empty() && (!line.literal || !why_not_delivered(line.name).empty())) {
        server.notes.push_back(line.name + " stays in the envFile");
        reason.clear();
      }
      if (reason.empty()) {
        pass_on(line.name);
      } else if (add_secret(
                     server,
                     {line.name, line.name, {}, reason + ", in the envFile", value_of(text)})) {
        out.insert(line.name);
      } else {
        known = false;
      }
    }
    return out;
  }

  /// A server that runs postern may read an envFile that still has its secrets: an import that
  /// ended between two files leaves it so.
  void read_imported(const JsonNode& entry, const JsonMember* args, const JsonMember* env,
                     FoundServer& server, bool& taken) {
    auto* file = env_file_of(entry, server);
    if (file == nullptr) return;
    bool known = true;
    auto lines = take_lines(
        *file, env, server, known, [](const std::string&) {}, Imported::Yes);
    if (lines.empty()) return;
    server.backend = backend_in(args);
    if (!known || server.backend.empty()) {
      server.secrets.clear();
      found_.unfinished = true;
      server.notes.push_back(
          "it runs postern already, and its envFile has secrets all the same" +
          std::string(known ? "; which backend has them is not to be seen in args" : ""));
      return;
    }
    server.imported = true;
    taken = true;
    file->taken.merge(lines);
  }

  /// As rewrite() writes it: `exec`, the backend, and what is for the server itself.
  std::string backend_in(const JsonMember* args) const {
    if (args == nullptr || args->value.items.size() < 2) return {};
    const auto& items = args->value.items;
    if (!items[0].is(Kind::String) || !items[1].is(Kind::String)) return {};
    auto backend = string_of(items[1]);
    return string_of(items[0]) == "exec" && BackendId::parse(backend).ok() ? backend
                                                                           : std::string();
  }

  static void pass(const std::string& name, std::vector<std::string>& passed, FoundServer& server,
                   bool& known) {
    if (inherited_variable(name)) return;
    // What `postern exec --pass` takes.
    if (!is_field_name(name) || name.starts_with("POSTERN_")) {
      server.notes.push_back("it stays as it is: postern exec cannot hand on the variable " + name);
      known = false;
      return;
    }
    passed.push_back(name);
  }

  /// @param ours  whether they are of postern, up to `--`
  void look_at_arguments(const JsonMember* args, bool ours, FoundServer& server) const {
    if (args == nullptr) return;
    std::string before;  // an option, without dashes
    for (std::size_t i = 0; i < args->value.items.size(); ++i) {
      const auto& item = args->value.items[i];
      if (!item.is(Kind::String)) continue;
      const auto text = json_->string_of(item);
      const auto argument = sdk::view(text);
      if (argument == "--") ours = false;
      if (ours && before == "pass") before.clear();  // a variable's name
      if (argument_holds_secret(argument, before)) {
        server.notes.push_back("argument " + std::to_string(i + 1) +
                               " looks like a secret and stays: a command line cannot be released");
      }
      const bool option = argument.starts_with("-") && argument.find('=') == argument.npos;
      before = option ? name_in(argument) : std::string_view();
    }
  }

  void look_at_url(const JsonNode& entry, FoundServer& server) const {
    for (const char* name : {"url", "serverUrl", "httpUrl"}) {
      const auto* url = entry.find(name);
      if (url == nullptr || !url->value.is(Kind::String)) continue;
      const auto text = json_->string_of(url->value);
      if (!why_secret_value(sdk::view(literal_of(sdk::view(text)))).empty()) {
        server.notes.push_back(std::string("its ") + name +
                               " has a secret in it and stays: an address cannot be released");
      }
    }
  }

  void read_headers(const JsonNode& entry, FoundServer& server) {
    const auto* headers = entry.find("headers");
    if (headers == nullptr || !headers->value.is(Kind::Object)) return;
    for (const auto& header : headers->value.members) {
      if (!header.value.is(Kind::String)) continue;
      const auto text = json_->string_of(header.value);
      const auto reason = why(header.name, sdk::view(text));
      if (reason.empty()) continue;
      const auto field = "HEADER_" + as_variable(header.name);
      if (!is_field_name(field)) {
        server.notes.push_back("a header whose name no field can have stays");
        continue;
      }
      const auto taken = [&](const FoundSecret& secret) { return secret.field == field; };
      if (std::any_of(server.secrets.begin(), server.secrets.end(), taken)) {
        server.notes.push_back("header " + header.name + " stays: another one is the field " +
                               field);
        continue;
      }
      FoundSecret secret{field, {}, header.name, reason, value_of({})};
      if (!take(server, std::move(secret), sdk::view(text))) {
        server.secrets.clear();
        return;
      }
      server.notes.push_back("header " + header.name +
                             " stays in the file too: this host sends it by itself; give it the "
                             "address of a gateway, and take the header out");
    }
  }

  sdk::Status rewrite(const JsonNode& entry, const JsonNode& command, const std::string& program,
                      const JsonMember* args, const JsonMember* env,
                      const std::vector<std::size_t>& removed,
                      const std::vector<std::string>& passed, const FoundServer& server) {
    POSTERN_TRY(const auto backend, backend_of(server.name, rules_));
    std::vector<std::string> arguments{quoted("exec"), quoted(backend)};
    for (const auto& name : passed) {
      arguments.push_back(quoted("--pass"));
      arguments.push_back(quoted(name));
    }
    arguments.push_back(quoted("--"));
    arguments.push_back(quoted(program));
    edits_.replace(command.begin, command.end, quoted("postern"));
    std::string further;  // members after `command`
    const auto space = json_->space_after(entry.begin + 1);
    const auto add = [&](const char* name, char open, const std::vector<std::string>& entries,
                         char close) {
      further += "," + (space.empty() ? " " : space) + quoted(name) + ": " + open;
      for (std::size_t i = 0; i < entries.size(); ++i) further += (i > 0 ? ", " : "") + entries[i];
      further += close;
    };
    if (args != nullptr) {
      insert_first(edits_, *json_, args->value, arguments, !args->value.items.empty());
    } else {
      add("args", '[', arguments, ']');
    }
    std::vector<std::string> settings;
    for (const auto& [name, text] : rules_.settings) {
      settings.push_back(quoted(name) + ": " + quoted(text));
    }
    if (env == nullptr) {
      if (!settings.empty()) add("env", '{', settings, '}');
    } else {
      if (!settings.empty()) {
        insert_first(edits_, *json_, env->value, settings,
                     removed.size() < env->value.members.size());
      }
      remove_members(edits_, *json_, env->value, removed);
    }
    if (!further.empty()) edits_.replace(command.end, command.end, further);
    return {};
  }

  sdk::Status finish_files(Comments comments) {
    if (!edits_.empty()) {
      FileChange change{path_, {}, edits_.apply(json_->text())};
      sdk::append(change.original, json_->text());
      // Within the bounds with what was added.
      if (const auto again = JsonText::parse(change.rewritten, comments); !again.ok()) {
        return sdk::fail(ErrorKind::Usage, "it cannot be rewritten: " + again.error().detail);
      }
      warn_of_copies(found_.servers, sdk::view(change.rewritten), "the file");
      found_.files.push_back(std::move(change));
    }
    for (auto& [path, file] : env_files_) {
      if (file.taken.empty()) continue;
      if (file.left) {
        FoundServer note;
        note.name = path;
        note.notes.push_back("stays as it is: a server that is not imported reads it too");
        found_.servers.push_back(std::move(note));
        continue;
      }
      TextEdits edits;
      for (const auto& line : file.entries) {
        if (file.taken.count(line.name) != 0) edits.replace(line.begin, line.end, "");
      }
      auto rewritten = left_of(sdk::view(file.text), edits);
      warn_of_copies(found_.servers, sdk::view(rewritten), "the envFile");
      found_.files.push_back({path, std::move(file.text), std::move(rewritten)});
    }
    return {};
  }

  ImportFormat format_;
  const std::string& path_;
  const ImportRules& rules_;
  const JsonText* json_ = nullptr;
  std::set<std::string> password_inputs_;
  std::map<std::string, EnvFile> env_files_;
  TextEdits edits_;
  Found found_;
};

}  // namespace

bool is_field_name(std::string_view name) { return name.size() <= 64 && is_variable_name(name); }

std::string why_not_delivered(const std::string& name) {
  if (!is_field_name(name)) return "no credential can have a field of that name";
  if (hijacking_variable(name)) return "such a variable could take over the started program";
  if (names_a_steering_file(name)) return "such a variable is delivered as a file only";
  return {};
}

std::string as_variable(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c >= 'a' && c <= 'z') {
      out += static_cast<char>(c - 'a' + 'A');
    } else {
      out += (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ? c : '_';
    }
  }
  return out;
}

sdk::Result<std::string> backend_of(const std::string& server, const ImportRules& rules) {
  std::string slug;
  if (const auto named = rules.backends.find(server); named != rules.backends.end()) {
    slug = named->second;
  } else {
    for (const char c : server) {
      if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
        slug += c;
      } else if (c >= 'A' && c <= 'Z') {
        slug += static_cast<char>(c - 'A' + 'a');
      } else if (!slug.empty() && slug.back() != '-') {
        slug += '-';
      }
    }
    slug.resize(std::min<std::size_t>(slug.size(), 63));
    while (!slug.empty() && slug.back() == '-') slug.pop_back();
  }
  if (!BackendId::parse(slug).ok()) {
    return sdk::fail(ErrorKind::Usage, "\"" + server +
                                           "\" makes no name of a backend; give one with --backend "
                                           "SERVER=BACKEND");
  }
  return slug;
}

std::optional<ImportFormat> format_named(std::string_view name) {
  static const std::map<std::string_view, ImportFormat> kFormats{
      {"mcp", ImportFormat::McpJson},   {"claude-desktop", ImportFormat::ClaudeDesktop},
      {"vscode", ImportFormat::VsCode}, {"cursor", ImportFormat::Cursor},
      {"dotenv", ImportFormat::Dotenv}, {"docker-catalog", ImportFormat::DockerCatalog}};
  const auto known = kFormats.find(name);
  if (known == kFormats.end()) return std::nullopt;
  return known->second;
}

std::optional<ImportFormat> format_of(const std::string& path, std::string_view text) {
  const auto slash = path.rfind('/');
  const auto name = slash == path.npos ? path : path.substr(slash + 1);
  const auto folder = slash == path.npos ? "" : path.substr(0, slash);
  if (name == "claude_desktop_config.json") return ImportFormat::ClaudeDesktop;
  if (name == ".env" || name.starts_with(".env.") || name.ends_with(".env")) {
    return ImportFormat::Dotenv;
  }
  if (name.ends_with(".yaml") || name.ends_with(".yml")) return ImportFormat::DockerCatalog;
  if (!name.ends_with(".json")) return std::nullopt;
  if (folder.ends_with(".cursor")) return ImportFormat::Cursor;
  if (folder.ends_with(".vscode")) return ImportFormat::VsCode;
  sdk::SecretBytes copy;
  sdk::append(copy, text);
  const auto json = JsonText::parse(std::move(copy), Comments::Allowed);
  // What is broken is said by the reader.
  if (json.ok() && json.value().root().find("servers") != nullptr) return ImportFormat::VsCode;
  return ImportFormat::McpJson;
}

sdk::Result<Found> read_host_file(sdk::SecretBytes text, ImportFormat format,
                                  const std::string& path, const ImportRules& rules) {
  return HostReader(format, path, rules).read(std::move(text));
}

sdk::Result<Found> read_dotenv_file(sdk::SecretBytes text, const std::string& backend,
                                    const std::string& path, const ImportRules& rules) {
  POSTERN_TRY(auto entries, parse_dotenv(sdk::view(text)));
  FoundServer server;
  server.name = path.substr(path.rfind('/') + 1);
  server.backend = backend;
  TextEdits edits;
  for (auto& entry : entries) {
    const auto value = as_text(entry.value.readable());
    if (value.empty() || contains(rules.except, entry.name)) continue;
    std::string why(why_secret(entry.name, value));
    if (rules.all || contains(rules.also, entry.name)) why = "you say so";
    if (why.empty()) continue;
    if (!entry.literal) {
      server.notes.push_back(entry.name + " stays: its value refers to another variable");
    } else if (const auto not_that = why_not_delivered(entry.name); !not_that.empty()) {
      server.notes.push_back(entry.name + " stays: " + not_that);
    } else if (add_secret(server,
                          {entry.name, entry.name, {}, why, FieldValue(std::move(entry.value))})) {
      edits.replace(entry.begin, entry.end, "");
    }
  }
  Found found;
  if (!server.secrets.empty() || !server.notes.empty()) found.servers.push_back(std::move(server));
  if (!edits.empty()) {
    auto rewritten = left_of(sdk::view(text), edits);
    warn_of_copies(found.servers, sdk::view(rewritten), "the file");
    found.files.push_back({path, std::move(text), std::move(rewritten)});
  }
  return found;
}

sdk::Result<Found> read_docker_catalog(std::string_view text, const std::string& path,
                                       const ImportRules& rules) {
  const auto reading = read_yaml(text, path, Documents::One);
  if (!reading.faults.empty()) return sdk::fail(ErrorKind::Usage, reading.faults.front().text());
  const auto& root = reading.documents.front().json();
  const auto registry = root.is_object() ? root.find("registry") : root.end();
  if (!root.is_object() || registry == root.end() || !registry->is_object()) {
    return sdk::fail(ErrorKind::Usage, "it has no map registry");
  }
  const auto text_in = [](const Json& object, const char* name) {
    const auto it = object.is_object() ? object.find(name) : object.end();
    return object.is_object() && it != object.end() && it->is_string() ? it->get<std::string>()
                                                                       : std::string();
  };
  Found found;
  std::vector<FoundServer> others;  // of which nothing is known: most of a catalogue's
  bool known = false;
  for (auto listed = registry->begin(); listed != registry->end(); ++listed) {
    const auto& name = listed.key();
    const Json& entry = listed.value();
    if (!takes_server(rules, name) || !entry.is_object()) continue;
    FoundServer server;
    server.name = name;
    const auto each = [&](const char* list, auto use) {
      const auto it = entry.find(list);
      if (it == entry.end() || !it->is_array()) return;
      for (const auto& item : *it) use(item);
    };
    std::set<std::string> seen;
    std::set<std::string> unknown;
    const auto add = [&](const std::string& variable, const std::string& why,
                         std::optional<SecureBuffer> value) {
      if (seen.count(variable) != 0) return;
      const auto not_that = why_not_delivered(variable);
      if (not_that.empty() && !value) {
        unknown.insert(variable);
        return;
      }
      seen.insert(variable);
      unknown.erase(variable);
      if (!not_that.empty()) {
        server.notes.push_back("a variable of it is not imported: " + not_that);
      } else {
        add_secret(server, {variable, variable, {}, why, FieldValue(std::move(*value))});
      }
    };
    each("secrets", [&](const Json& item) {
      const auto variable = text_in(item, "env");
      if (variable.empty() || contains(rules.except, variable) || !rules.look_up) return;
      add(variable, "the catalogue says so",
          rules.look_up({Reference::Kind::Environment, variable, variable}));
    });
    each("env", [&](const Json& item) {
      const auto variable = text_in(item, "name");
      auto value = text_in(item, "value");
      const std::string why(why_secret(variable, value));
      // {{github.host}} is for Docker to fill in.
      if (!why.empty() && value.find("{{") == value.npos && !contains(rules.except, variable)) {
        add(variable, why, SecureBuffer::copy_of(std::string_view(value)));
        server.notes.push_back("the value of " + variable + " stays in the catalogue too");
      }
      wipe(value);
    });
    known = known || !server.secrets.empty();
    if (!unknown.empty()) {
      const bool meant = !rules.servers.empty() || !server.secrets.empty();
      server.secrets.clear();  // half a credential starts no server
      server.notes = {needed(unknown)};
      (meant ? found.servers : others).push_back(std::move(server));
      continue;
    }
    if (server.secrets.empty() && server.notes.empty()) continue;
    if (!server.secrets.empty()) {
      POSTERN_TRY(server.backend, backend_of(name, rules));
    }
    found.servers.push_back(std::move(server));
  }
  if (!known) std::move(others.begin(), others.end(), std::back_inserter(found.servers));
  return found;
}

}  // namespace postern::cli
